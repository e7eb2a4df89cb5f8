import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from made_up import AVERAGES, STATUS, make_run, status_with
from tiny import CONFIG, StopAt, TinySession, config_with

from torchbase import hookimpl
from torchbase.command_line.tail import follow
from torchbase.errors import RunDirectoryError
from torchbase.hooks import JsonLines
from torchbase.run_directory.record import Epoch, append_epoch, truncate_epochs, write_status

MAIN = "import sys; from torchbase.command_line import main; sys.exit(main())"


def test_a_finished_run_is_written_and_the_command_ends(command, tmp_path):
    status, out, err = command("tail", make_run(tmp_path, "run", status=status_with(seconds=184.0)))
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "run  finished, 3 of 3 epochs, 30 iterations, 3m04s",
        "epoch 1  training  loss 0.9000, accuracy 0.5000",
        "epoch 1  valid     loss 0.5000",
        "epoch 2  training  loss 0.5000, accuracy 0.7000",
        "epoch 2  valid     loss 0.2500",
        "epoch 3  training  loss 0.1250, accuracy 0.8000",
        "epoch 3  valid     loss 0.3750",
        "finished after 3 of 3 epochs, 30 iterations, 3m04s",
    ]


@pytest.mark.parametrize(
    ("changes", "end"),
    [
        ({"state": "failed", "reason": "KeyError: 'x'"}, "failed after 3 of 3 epochs, 30 iterations: KeyError: 'x'"),
        ({"state": "stopped", "reason": "early"}, "stopped after 3 of 3 epochs, 30 iterations: early"),
        (
            {"state": "running"},
            "killed after 3 of 3 epochs, 30 iterations: its process ended without recording how",
        ),
        ({"max_iterations": 40}, "finished after 3 epochs, 30 of 40 iterations"),
    ],
)
def test_it_says_how_the_run_ended(command, tmp_path, changes, end):
    status, out, _ = command("tail", make_run(tmp_path, "run", status=status_with(**changes)))
    assert (status, out.splitlines()[-1]) == (0, end)


def test_of_a_long_run_the_last_lines_are_written(command, tmp_path):
    folder = make_run(tmp_path, "run", averages={"training": [{"loss": 0.5}] * 50})
    lines = command("tail", folder)[1].splitlines()
    assert lines[1] == f"40 earlier lines: torchbase show {folder}"
    assert [line.split()[1] for line in lines[2:-1]] == [str(epoch) for epoch in range(41, 51)]


def test_a_run_that_never_began_and_a_damaged_run_end_at_once(command, tmp_path):
    status, out, _ = command("tail", make_run(tmp_path, "begun", status=None, averages={}))
    assert status == 0
    assert "not begun" in out
    assert "it ended before it started to train" in out
    folder = make_run(tmp_path, "run")
    (folder / "status.json").write_text("{")
    with (folder / "epochs.jsonl").open("a") as lines:
        lines.write("nothing\n")
    status, out, _ = command("tail", folder)
    assert status == 1
    assert "epoch 3  valid     loss 0.3750\n" in out
    assert out.count("status.json is damaged") == 1
    assert out.count("epochs.jsonl is damaged") == 1


@pytest.fixture
def locked(monkeypatch):
    """As if a process trains each run whose status says so."""
    monkeypatch.setattr("torchbase.command_line.run_records.is_locked", lambda folder: True)


def following(capsys, folder, *steps):
    """The lines that each step adds to the output of a run that is followed; the last step ends the run."""
    written, left = [], list(steps)

    def wait():
        written.append(capsys.readouterr().out.splitlines())
        left.pop(0)()

    capsys.readouterr()
    assert follow(folder, wait) == 0
    assert left == []
    return [*written, capsys.readouterr().out.splitlines()]


def test_values_are_written_as_they_come_until_the_run_ends(capsys, tmp_path, locked):
    folder = make_run(tmp_path, "run", status=status_with(state="running"), averages={})
    assert following(
        capsys,
        folder,
        lambda: append_epoch(folder, Epoch(1, "training", 5, {"loss": 0.5})),
        lambda: None,
        lambda: append_epoch(folder, Epoch(2, "validation-valid", 7, {"loss": float("nan")})),
        lambda: (append_epoch(folder, Epoch(2, "training", 10, {"loss": 0.25})), write_status(folder, STATUS)),
    ) == [
        ["run  running, 3 of 3 epochs, 30 iterations"],
        ["epoch 1  training  loss 0.5000"],
        [],
        ["epoch 2, iteration 7  valid     loss nan"],  # within the epoch
        ["epoch 2  training  loss 0.2500", "finished after 3 of 3 epochs, 30 iterations"],
    ]


def test_a_resume_from_an_earlier_checkpoint_is_said(capsys, tmp_path, locked):
    folder = make_run(tmp_path, "run", status=status_with(state="running"), averages={"training": AVERAGES["training"]})
    lines = following(capsys, folder, lambda: truncate_epochs(folder, 1), lambda: write_status(folder, STATUS))
    assert lines[1] == ["resumed from a checkpoint: the last 2 lines are repeated, after epoch 1"]


def test_a_run_that_has_not_begun_to_train_is_waited_for(capsys, tmp_path, locked):
    folder = make_run(tmp_path, "run", status=None, averages={})
    lines = following(capsys, folder, lambda: None, lambda: write_status(folder, STATUS))
    assert lines == [
        ["run  running, ? of 3 epochs, ? iterations"],
        [],
        ["finished after 3 of 3 epochs, 30 iterations"],
    ]


def test_a_run_directory_that_is_removed_is_an_error(tmp_path, locked):
    folder = make_run(tmp_path, "run", status=status_with(state="running"))
    with pytest.raises(RunDirectoryError, match="was removed while it was followed"):
        follow(folder, lambda: shutil.rmtree(folder))


class InTurns:
    """Lets the training of another thread run from one epoch to the next."""

    def __init__(self):
        self.may_go, self.has_come = threading.Semaphore(0), threading.Semaphore(0)

    @hookimpl
    def on_epoch_start(self):
        self.has_come.release()
        assert self.may_go.acquire(timeout=60)

    def go(self):
        self.may_go.release()
        assert self.has_come.acquire(timeout=60)


def test_a_run_that_is_training_is_followed_with_its_logged_values(capsys, tmp_path):
    session = TinySession(CONFIG, tmp_path)
    turns = InTurns()
    session.register(JsonLines())
    session.register(turns)
    training = threading.Thread(target=session)
    training.start()
    assert turns.has_come.acquire(timeout=60)

    def end():
        turns.may_go.release()
        training.join(60)

    lines = following(capsys, Path(session.run_dir), turns.go, end)
    assert [line.split()[:3] for line in lines[1]] == [
        ["epoch", "1", "training"],
        ["epoch", "1", "valid"],
        ["epoch", "1", "demo"],
    ]
    assert lines[2][-1].startswith("finished after 2 of 2 epochs, 10 iterations, ")
    assert following(capsys, Path(session.run_dir))[0][-2].startswith("iteration 10  loss ")


def test_the_lines_of_a_resumed_run_are_those_of_its_record(command, tmp_path):
    session = TinySession(CONFIG, tmp_path)
    session.register(StopAt(7))
    session()
    assert "stopped after 1 of 2 epochs, 7 iterations" in command("tail", session.run_dir)[1]
    TinySession(config_with(), tmp_path, False, Path(session.run_dir).name)()
    assert "finished after 2 of 2 epochs, 10 iterations" in command("tail", session.run_dir)[1]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for a single process")
def test_ctrl_c_is_quiet(tmp_path):
    import fcntl

    folder = make_run(tmp_path, "run", status=status_with(state="running"))
    with (folder / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = [sys.executable, "-c", MAIN, "tail", str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout.readline().startswith(b"run  running")  # at once, also in a pipe
            os.kill(process.pid, signal.SIGINT)
            assert process.stderr.read() == b""
            assert process.wait() == 130
