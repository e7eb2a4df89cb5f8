import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from tiny import TinySession, config_with

from torchbase import Engine, Phase, Run, hookimpl
from torchbase.checkpoints.listing import newest_progress
from torchbase.hooks import Interruption
from torchbase.run_directory.record import read_status


def run_with(step, batches=5):
    run = Run(training=Phase("training", range(batches), is_training=True), max_epochs=1)
    return run, Engine(step, hooks=[Interruption()])


def test_a_signal_stops_the_run_after_the_iteration_and_is_raised_again():
    completed = []

    def step(run, phase, batch):
        if batch == 2:
            signal.raise_signal(signal.SIGINT)
        completed.append(batch)

    run, engine = run_with(step)
    with pytest.raises(KeyboardInterrupt):
        engine.run(run)
    assert completed == [0, 1, 2]
    assert run.stop_reason == "interrupted by SIGINT"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_signal_ends_the_program_at_once():
    completed = []

    def step(run, phase, batch):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        completed.append(batch)

    run, engine = run_with(step)
    with pytest.raises(KeyboardInterrupt):
        engine.run(run)
    assert completed == []


def test_handlers_are_restored_after_success_and_after_an_error():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    run, engine = run_with(lambda run, phase, batch: None)
    engine.run(run)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before

    def fail(run, phase, batch):
        raise KeyError

    run, engine = run_with(fail)
    with pytest.raises(KeyError):
        engine.run(run)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_the_handler_of_the_program_is_called_at_the_end_of_the_run():
    received = []
    former = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        run, engine = run_with(lambda run, phase, batch: signal.raise_signal(signal.SIGTERM))
        engine.run(run)
    finally:
        signal.signal(signal.SIGTERM, former)
    assert received == [signal.SIGTERM]
    assert run.progress.iterations == 1


def test_outside_the_main_thread_no_handlers_are_set():
    run, engine = run_with(lambda run, phase, batch: None)
    thread = threading.Thread(target=engine.run, args=(run,))
    thread.start()
    thread.join()
    assert run.epochs_done == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_is_ignored_stays_ignored(number):
    former = signal.signal(number, signal.SIG_IGN)
    try:
        run, engine = run_with(lambda run, phase, batch: signal.raise_signal(number))
        engine.run(run)
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, former)
    assert (run.epochs_done, run.stop_reason) == (1, None)


def test_without_a_run_directory_the_message_says_that_nothing_is_saved():
    run, engine = run_with(lambda run, phase, batch: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt, match=r"SIGINT ended the run\. Nothing is saved, since"):
        engine.run(run)


SCRIPT = """
    import os
    import signal
    import sys

    from torchbase import hookimpl
    from torchbase.testing import TinySession, tiny_config


    class SendSignals:
        def __init__(self, iterations, names):
            self.iterations, self.names = iterations, names

        @hookimpl
        def on_gradients_ready(self, run):
            if run.progress.iterations == self.iterations:
                run.run_directory.writes.wait()
                for name in self.names:
                    os.kill(os.getpid(), getattr(signal, name))
                self.names = []


    config = tiny_config(num_epochs=3, preemption_signal=os.environ.get("PREEMPTION_SIGNAL"))
    session = TinySession(config, sys.argv[1])
    session.register(SendSignals(int(sys.argv[2]), sys.argv[3:]))
    print(session().epochs_done)
"""


@pytest.fixture
def run_script(programs, tmp_path):
    """Trains in a process that sends itself signals. Like a job of a shell script, it can ignore some."""

    def run(iterations, *names, ignored=(), before="", **env):
        ignore = [f"import signal; signal.signal(signal.{name}, signal.SIG_IGN)" for name in ignored]
        code = "\n".join([*ignore, before, textwrap.dedent(SCRIPT)])
        return programs.run("-W", "ignore", "-c", code, tmp_path, iterations, *names, env={**os.environ, **env})

    return run


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no SIGHUP")
def test_signals_that_the_parent_ignores_do_not_end_the_program(run_script):
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    done = run_script(0, *names, *names, ignored=names)
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr
    assert "ended the run" not in done.stderr


def test_the_last_line_after_ctrl_c_says_what_is_saved_and_how_to_continue(run_script, tmp_path):
    done = run_script(7, "SIGINT")
    assert done.returncode == -signal.SIGINT
    (directory,) = tmp_path.iterdir()
    frames = [line for line in done.stderr.splitlines() if line.strip().startswith("File ")]
    assert [Path(line.split('"')[1]).name for line in frames] == ["<string>", "base.py"]
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"KeyboardInterrupt: SIGINT ended the run. Its state is saved in {directory}. ")
    call = last.partition("To continue: ")[2]
    assert call == f"TinySession.resume({str(tmp_path)!r}, {directory.name!r})()"
    assert eval(call, {"TinySession": TinySession}).epochs_done == 3


def test_the_last_line_before_sigterm_ends_the_program_says_the_same(run_script, tmp_path):
    done = run_script(7, "SIGTERM")
    assert done.returncode == -signal.SIGTERM
    assert "Traceback" not in done.stderr
    (directory,) = tmp_path.iterdir()
    assert done.stderr.splitlines()[-1].startswith(f"SIGTERM ended the run. Its state is saved in {directory}. To cont")


def test_the_last_line_after_a_second_signal_says_what_was_saved_before(run_script, tmp_path):
    done = run_script(7, "SIGINT", "SIGINT")
    assert done.returncode == -signal.SIGINT
    (directory,) = tmp_path.iterdir()
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"Its state after 5 iterations is saved in {directory}. To continue: TinySession.resume(")
    assert "send_signals" in done.stderr


def test_a_run_interrupted_in_its_last_iteration_is_not_continued(tmp_path):
    session = TinySession(config_with(num_epochs=1), tmp_path)

    class AtTheEnd:
        @hookimpl
        def on_epoch_end(self):
            signal.raise_signal(signal.SIGINT)

    session.register(AtTheEnd())
    with pytest.raises(KeyboardInterrupt, match="All its epochs are done and saved in"):
        session()


def test_an_interrupt_before_the_first_checkpoint_is_said_to_have_none(tmp_path):
    session = TinySession(config_with(num_epochs=1), tmp_path)

    class AtOnce:
        @hookimpl
        def on_iteration_start(self):
            raise KeyboardInterrupt

    session.register(AtOnce())
    with pytest.raises(KeyboardInterrupt) as caught:
        session()
    assert caught.value.__notes__[-1] == f"There is no whole checkpoint in {session.run_dir}."


# The signal of a scheduler


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="there is no SIGUSR1")
@pytest.mark.parametrize("name", ["SIGUSR1", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("ignored", [False, True])
def test_after_the_preemption_signal_the_status_asks_to_start_the_program_again(run_script, tmp_path, name, ignored):
    done = run_script(7, name, ignored=[name] if ignored else [], PREEMPTION_SIGNAL=name)
    assert (done.returncode, done.stdout) == (75, ""), done.stderr
    assert "Traceback" not in done.stderr
    (directory,) = tmp_path.iterdir()
    assert done.stderr.splitlines()[-1].startswith(f"{name} ended the run. Its state is saved in {directory}. To cont")
    assert newest_progress(directory / "states") == (1, 8)
    assert read_status(directory).reason == f"interrupted by {name}"
    assert TinySession.resume(tmp_path)().epochs_done == 3


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="there is no SIGUSR1")
def test_a_signal_that_no_config_names_ends_the_program_as_before(run_script):
    assert run_script(7, "SIGUSR1").returncode == -signal.SIGUSR1
    assert run_script(7, "SIGTERM", PREEMPTION_SIGNAL="SIGUSR1").returncode == -signal.SIGTERM


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="there is no SIGUSR1")
def test_when_the_announced_time_is_up_the_iteration_is_still_finished(run_script, tmp_path):
    assert run_script(7, "SIGUSR1", "SIGTERM", "SIGUSR1", PREEMPTION_SIGNAL="SIGUSR1").returncode == 75
    (directory,) = tmp_path.iterdir()
    assert newest_progress(directory / "states") == (1, 8)
    assert run_script(7, "SIGUSR1", "SIGINT", PREEMPTION_SIGNAL="SIGUSR1").returncode == -signal.SIGINT


def test_a_program_of_torchrun_ignores_that_it_is_signalled_twice(run_script, tmp_path):
    assert run_script(7, "SIGTERM", "SIGTERM", TORCHELASTIC_RUN_ID="1").returncode == -signal.SIGTERM
    (directory,) = tmp_path.iterdir()
    assert newest_progress(directory / "states") == (1, 8)


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="there is no SIGUSR1")
def test_a_handler_of_the_program_is_called_for_the_preemption_signal_too(run_script):
    before = "import signal; signal.signal(signal.SIGUSR1, lambda number, frame: print('mine'))"
    done = run_script(7, "SIGUSR1", before=before, PREEMPTION_SIGNAL="SIGUSR1")
    assert (done.returncode, done.stdout) == (0, "mine\n1\n"), done.stderr


def test_a_preemption_signal_that_cannot_stop_a_run_in_a_thread_is_said(caplog):
    run = Run(training=Phase("training", [1], is_training=True), max_epochs=1)
    engine = Engine(lambda run, phase, batch: None, hooks=[Interruption("SIGTERM")])
    thread = threading.Thread(target=engine.run, args=(run,))
    thread.start()
    thread.join()
    assert (
        "The preemption_signal SIGTERM won't stop this run with a checkpoint, since the session trains in"
        in caplog.text
    )


FIRST_PROCESS = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]


def can_be_first_process():
    return shutil.which("unshare") and subprocess.run([*FIRST_PROCESS, "true"], capture_output=True).returncode == 0


def test_the_first_process_of_a_container_ends_although_signals_do_not_end_it(tmp_path):
    """Linux ignores SIGTERM for it unless the program has a handler."""
    if not can_be_first_process():
        pytest.skip("needs unshare, and the right to use it")
    program = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(SCRIPT), tmp_path, "7", "SIGTERM"]
    done = subprocess.run([*FIRST_PROCESS, *program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (128 + signal.SIGTERM, ""), done.stderr
    assert TinySession.resume(tmp_path)().epochs_done == 3
