"""Programs that torchrun starts, as users do."""

import os
import signal
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

SCRIPT = """
    import hashlib
    import os
    import sys
    import time
    from pathlib import Path

    from torchbase import hookimpl
    from torchbase.testing import TinySession, tiny_config


    class WaitsForSignal:
        def __init__(self, file):
            self.file = file

        @hookimpl
        def on_iteration_end(self, run, phase):
            if phase.is_training and run.progress.iterations == 3:
                if run.processes.is_main:
                    run.run_directory.writes.wait()
                    self.file.touch()
                while run.stop_request is None:
                    time.sleep(0.01)


    class Fails:
        @hookimpl
        def on_epoch_end(self, run):
            if run.processes.index == 1:
                raise KeyError("a fault in the hook")


    if __name__ == "__main__":
        folder, action = Path(sys.argv[1]), sys.argv[2]
        if action == "resume":
            session = TinySession.resume(folder)
        else:
            # Parts of two samples, since the network has batch normalization.
            config = tiny_config(mini_batch_size=8, mini_batch_parts=4)
            config["data"] = {"training_samples": 40}
            session = TinySession(config, folder)
        if action == "wait":
            session.register(WaitsForSignal(folder / "reached"))
        session()
        if session.processes.is_main:
            content = b"".join(value.numpy().tobytes() for value in session.network.state_dict().values())
            print(hashlib.sha256(content).hexdigest(), session.processes.count)
            print("torchbase.distributed.process_group" in sys.modules, flush=True)
        if action == "train and fail":
            session = TinySession(config, folder / "failing")
            session.register(Fails())
            session()
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    file = tmp_path_factory.mktemp("script") / "train.py"
    file.write_text(textwrap.dedent(SCRIPT))
    return file


@pytest.fixture(scope="module")
def whole(script, tmp_path_factory, programs):
    """The checksum of the network after a run of one process, and whether it has imported what several need."""
    done = programs.run(script, tmp_path_factory.mktemp("whole"), "train")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def torchrun(programs):
    """Starts torchrun, which starts processes of its own."""

    def start(count, *words):
        return programs.start(*("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", count), *words)

    return start


def test_torchrun_trains_the_network_of_python_and_shows_the_error_that_was_first(script, whole, tmp_path, torchrun):
    done = torchrun(2, script, tmp_path, "train and fail").communicate()
    assert done.returncode == 1
    (checksum, _), (alone, count) = (line.split() for line in (done.stdout.splitlines()[0], whole[0]))
    assert checksum == alone
    assert done.stdout.splitlines()[0].split()[1] == "2"
    assert (count, whole[1]) == ("1", "False")  # alone, nothing of several processes is imported
    assert "2 epochs on 2 processes (cpu), 57 parameters in " in done.stderr
    assert done.stderr.count("epoch 2/2") == 1
    check_shows_the_first_error(tmp_path / "failing", done)


def check_shows_the_first_error(parent, done):
    (run_dir,) = parent.iterdir()
    assert "a fault in the hook" in (run_dir / "errors" / "process-1.txt").read_text()
    cause = done.stderr.partition("Root Cause (first observed failure):")[2]
    assert "rank      : 1 (local_rank: 1)" in cause
    assert "KeyError: 'a fault in the hook'" in cause
    assert "on process 1 of 2, on " in cause


def test_a_signal_to_torchrun_stops_all_and_python_resumes(script, whole, tmp_path, programs, torchrun):
    process = torchrun(2, script, tmp_path, "wait")
    with ThreadPoolExecutor(1) as threads:
        ending = threads.submit(process.communicate)
        while not (tmp_path / "reached").exists() and not ending.done():
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGTERM)
        ended = ending.result()
    assert ended.returncode != 0
    assert "SIGTERM ended the run. Its state is saved in" in ended.stderr, ended.stderr
    (tmp_path / "reached").unlink()
    done = programs.run(script, tmp_path, "resume")
    assert done.stdout.splitlines() == whole, done.stderr
