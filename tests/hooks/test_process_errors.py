"""On several processes, each error is in a file of its process; see also tests/session/test_process_failures.py."""

from pathlib import Path

import several
from tiny import TinySession, config_with

from torchbase import hookimpl


class Broken:
    def __init__(self, index):
        self._index = index

    @hookimpl
    def on_iteration_end(self, run):
        if run.processes.index == self._index and run.progress.iterations == 3:
            raise ValueError("the lamp is out")


def broken(index, parent):
    session = TinySession(config_with(mini_batch_parts=2, mini_batch_size=10), parent)
    session.register(Broken(1))
    session()


def test_the_process_that_fails_and_the_one_that_has_lost_it_each_write_a_file(tmp_path):
    first, second = several.run(2, broken, tmp_path)
    assert "ValueError: the lamp is out" in second.error
    assert "the lamp is out" in first.error  # named by its note
    (run_dir,) = tmp_path.iterdir()
    texts = [(run_dir / "errors" / f"process-{index}.txt").read_text() for index in (0, 1)]
    assert "ProcessLostError" in texts[0]
    assert "ValueError: the lamp is out" in texts[1]


def test_a_process_alone_writes_no_file_of_errors(tmp_path):
    session = TinySession(
        config_with(mini_batch_parts=2, mini_batch_size=10, checkpoint_every_n_iterations=1), tmp_path
    )
    session.register(Broken(0))
    try:
        session()
    except ValueError:
        assert not (Path(session.run_dir) / "errors").exists()
    else:
        raise AssertionError("the hook raised no error")
