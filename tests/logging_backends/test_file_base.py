import errno
import logging
import os
from contextlib import nullcontext
from pathlib import Path

import pytest
from tiny import TinySession, config_with

from torchbase import Engine, Phase, Run, hookimpl
from torchbase.checkpoints.storage import newest_whole_checkpoint
from torchbase.files.append_only import AppendOnlyFile
from torchbase.logging_backends.file_base import FileBackend
from torchbase.logging_backends.records import Scalars


class Table(FileBackend):
    """Writes each value on a line of table.txt."""

    pattern = "table.txt"

    def open_file(self, folder):
        return AppendOnlyFile(folder / "table.txt")

    def append(self, file, record):
        if isinstance(record, Scalars):
            for tag, value in record.values.items():
                file.append(f"{tag} {record.step} {value!r}\n".encode())


class Ends(BaseException):
    """Ends the program in the middle of a run, without another checkpoint."""


class At:
    """Calls a function at the end of an iteration of a phase."""

    def __init__(self, phase, iteration, action):
        self.phase, self.iteration, self.action = phase, iteration, action

    @hookimpl
    def on_iteration_end(self, run, phase):
        if (phase.name, phase.progress.iterations) == (self.phase, self.iteration):
            self.action(run)


def stop(run):
    run.request_stop("for the test")


def end(run):
    raise Ends


def new_session(tmp_path, *hooks, **session):
    session = TinySession(config_with(**session), tmp_path)
    session.unregister("tensorboard")
    for hook in (Table(), *hooks):
        session.register(hook)
    return session


def resume(session):
    resumed = TinySession.resume(Path(session.run_dir).parent, Path(session.run_dir).name)
    resumed.unregister("tensorboard")
    resumed.register(Table())
    return resumed


def lines_of(session):
    return Path(session.run_dir, "table.txt").read_text().splitlines()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("phase", "iteration", "action"),
    [
        ("training", 3, stop),
        ("training", 5, stop),
        ("validation-valid", 2, stop),
        ("validation-demo", 4, stop),
        ("training", 4, end),
        ("validation-valid", 5, end),
    ],
)
def test_a_resumed_run_has_each_line_once_and_in_order(tmp_path, phase, iteration, action, workers):
    uninterrupted = new_session(tmp_path)
    uninterrupted()
    session = {"checkpoint_every_n_iterations": 3, "dataloader_num_workers": workers}
    interrupted = new_session(tmp_path, At(phase, iteration, action), **session)
    with pytest.raises(Ends) if action is end else nullcontext():
        interrupted()
    interrupted._run_directory.writes.join()
    interrupted._run_directory.unlock()
    resume(interrupted)()
    assert lines_of(interrupted) == lines_of(uninterrupted)


def test_a_checkpoint_excludes_an_interrupted_validation(tmp_path):
    session = new_session(tmp_path, At("validation-demo", 1, stop))
    session()
    sizes = newest_whole_checkpoint(Path(session.run_dir) / "states").parts["training"]["hooks"]["table"]["sizes"]
    text = Path(session.run_dir, "table.txt").read_bytes()
    assert b"validation-demo/loss/iterations 1" in text
    assert len(text[: sizes["table.txt"]].splitlines()) == 5 + 1 + 3 + 1


def test_a_run_that_ended_before_its_first_checkpoint_restarts_with_an_empty_file(tmp_path):
    interrupted = new_session(tmp_path)
    interrupted._run_directory.writes.wait()
    interrupted._run_directory.unlock()  # as if the program was killed
    Path(interrupted.run_dir, "table.txt").write_text("training/loss/iterations 1 0.5\n")
    resume(interrupted)()
    uninterrupted = new_session(tmp_path)
    uninterrupted()
    assert lines_of(interrupted) == lines_of(uninterrupted)


def test_without_a_run_directory_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = Run(training=Phase("training", [1], is_training=True), max_epochs=1)
    Engine(lambda run, phase, batch: run.call.log_scalars(run=run, scalars={"a": 1.0}, step=1), hooks=[Table()]).run(
        run
    )
    assert list(tmp_path.iterdir()) == []


def test_flushed_lines_stay_on_a_full_disk_and_an_incomplete_line_is_removed(tmp_path, caplog):
    class FullDisk:
        @hookimpl
        def on_epoch_start(self, run):
            if run.epoch == 2:
                full = os.open("/dev/full", os.O_WRONLY)
                os.dup2(full, run.hooks["table"]._file._file.fileno())
                os.close(full)

    session = new_session(tmp_path, FullDisk())
    with caplog.at_level(logging.WARNING, "torchbase"):
        assert session().epochs_done == 2
    (warning,) = caplog.messages
    assert warning.startswith(f"table can't write table.txt in {session.run_dir}, so some values will be missing there")
    assert "No space left on device" in warning
    complete = new_session(tmp_path)
    complete()
    assert lines_of(session) == lines_of(complete)[: 5 + 1 + 3 + 1 + 2 + 1]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_file_that_can_not_be_opened_ends_the_run_only_with_the_policy_raise(tmp_path, caplog, number):
    class Refused(Table):
        name = "table"

        def open_file(self, folder):
            raise OSError(number, os.strerror(number))

    for policy in ("warn", "raise"):
        session = TinySession(config_with(on_logging_error=policy), tmp_path)
        session.register(Refused())
        with pytest.raises(OSError, match=os.strerror(number)) if policy == "raise" else nullcontext() as caught:
            session()
    assert f"table can't write table.txt in {session.run_dir}" in caught.value.__notes__
    assert caplog.text.count("table can't write") == 1
