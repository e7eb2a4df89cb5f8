import json
import logging
import os
import socket
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tiny import CONFIG, StopAt, TinySession, config_with

from torchbase import Engine, Phase, Run, hookimpl
from torchbase.errors import CheckpointError
from torchbase.hooks import RunRecord
from torchbase.listeners import Listener
from torchbase.run_directory.directory import RunDirectory
from torchbase.run_directory.record import Best, read_epochs, read_hooks, read_status


def status_of(session):
    return read_status(Path(session.run_dir))


def lines_of(session):
    return Path(session.run_dir, "epochs.jsonl").read_text()


def go_on(session, **config):
    folder = Path(session.run_dir)
    given = {"create_run_dir_afresh": False, "source_run_dir_tag": folder.name}
    return TinySession(config_with(**config), folder.parent, **given)


def test_a_run_that_is_done_tells_how_it_went(tmp_path):
    session = TinySession(CONFIG, tmp_path)
    assert status_of(session) is None
    summary = session()
    status = status_of(session)
    assert (status.state, status.reason, status.epochs_done, status.max_epochs) == ("finished", None, 2, 2)
    assert status.iterations == 10
    assert status.best_losses == {name: Best(best.loss, best.epoch) for name, best in summary.best_losses.items()}
    assert (status.process_id, status.host) == (os.getpid(), socket.gethostname())
    assert status.resumed_at is None
    times = [datetime.fromisoformat(time) for time in (status.started_at, status.updated_at)]
    assert times == sorted(times)
    assert datetime.now(UTC) - times[0] < timedelta(minutes=5)


def test_each_phase_of_each_epoch_is_a_line_with_its_averages(tmp_path):
    session = TinySession(CONFIG, tmp_path)
    summary = session()
    epochs, damaged = read_epochs(Path(session.run_dir))
    assert damaged == 0
    assert [(one.epoch, one.phase, one.iterations) for one in epochs] == [
        (1, "training", 5),
        (1, "validation-valid", 5),
        (1, "validation-demo", 5),
        (2, "training", 10),
        (2, "validation-valid", 10),
        (2, "validation-demo", 10),
    ]
    assert {one.phase: one.averages for one in epochs[3:]} == summary.averages


def test_the_status_is_written_at_the_start_and_at_the_end_of_each_epoch(tmp_path):
    seen = []

    class Look:
        @hookimpl(trylast=True)
        def on_run_start(self, run):
            seen.append(read_status(run.run_directory.path))

        @hookimpl
        def on_epoch_start(self, run):
            seen.append(read_status(run.run_directory.path))

    session = TinySession(CONFIG, tmp_path)
    session.register(Look())
    session()
    assert [(one.state, one.epochs_done, one.iterations) for one in seen] == [
        ("running", 0, 0),
        ("running", 0, 0),
        ("running", 1, 5),
    ]
    assert seen[-1].best_losses["validation-valid"].epoch == 1


def test_a_run_that_was_stopped_tells_why_and_goes_on(tmp_path):
    session = TinySession(CONFIG, tmp_path)
    session.register(StopAt(7))
    session()
    status = status_of(session)
    assert (status.state, status.reason, status.epochs_done, status.iterations) == ("stopped", "for the test", 1, 7)
    go_on(session)()
    resumed = status_of(session)
    assert (resumed.state, resumed.reason, resumed.epochs_done) == ("finished", None, 2)
    assert resumed.started_at == status.started_at
    assert resumed.resumed_at >= status.updated_at


class Raise:
    """Raises an error at the start of the second epoch."""

    def __init__(self, error):
        self.error = error

    @hookimpl
    def on_epoch_start(self, run):
        if run.epoch == 2:
            raise self.error


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (ValueError("the first line\n  and another"), "failed", "ValueError: the first line and another"),
        (KeyError(), "failed", "KeyError"),
        (KeyboardInterrupt(), "stopped", "KeyboardInterrupt"),
        (SystemExit(3), "stopped", "SystemExit: 3"),
    ],
)
def test_what_ended_a_run_is_told_in_one_line(tmp_path, error, state, reason):
    session = TinySession(CONFIG, tmp_path)
    session.register(Raise(error))
    with pytest.raises(type(error)):
        session()
    assert (status_of(session).state, status_of(session).reason) == (state, reason)


def test_a_signal_is_the_reason_though_it_is_raised_again_at_the_end(tmp_path):
    import signal

    class Signal:
        @hookimpl
        def on_iteration_start(self, run):
            if run.progress.iterations == 7:
                signal.raise_signal(signal.SIGINT)

    session = TinySession(CONFIG, tmp_path)
    session.register(Signal())
    with pytest.raises(KeyboardInterrupt):
        session()
    assert (status_of(session).state, status_of(session).reason) == ("stopped", "interrupted by SIGINT")


def test_a_run_that_can_not_go_on_leaves_what_it_told_before(tmp_path):
    session = TinySession(CONFIG, tmp_path)
    session()
    before = status_of(session)
    for file in Path(session.run_dir).glob("states/checkpoint-*/network.pth"):
        file.write_bytes(b"")
    with pytest.raises(CheckpointError):
        go_on(session)()
    assert status_of(session) == before


class Ends(BaseException):
    """Ends the program in the middle of a run, so that no checkpoint is written any more."""


class EndAt(StopAt):
    """Ends a run as a kill does, as far as files are concerned."""

    @hookimpl
    def on_iteration_end(self, run, phase):
        if phase.name == self.phase and phase.progress.iterations == self.iteration:
            raise Ends


@pytest.mark.parametrize("how", [StopAt, EndAt])
@pytest.mark.parametrize("where", ["training 4", "training 5", "training 8", "validation-valid 2", "validation-demo 3"])
def test_a_run_that_goes_on_has_the_same_lines_as_one_that_was_never_stopped(tmp_path, how, where):
    whole = TinySession(CONFIG, tmp_path)
    whole()
    phase, iteration = where.split()
    begun = TinySession(config_with(checkpoint_every_n_iterations=3), tmp_path)
    begun.register(how(int(iteration), phase))
    with pytest.raises(Ends) if how is EndAt else nullcontext():
        begun()
    begun._run_directory.writes.join()  # the end of a program ends its threads, too
    begun._run_directory.unlock()
    go_on(begun)()
    assert lines_of(begun) == lines_of(whole)
    assert status_of(begun).best_losses == status_of(whole).best_losses


def test_more_epochs_are_added_to_those_that_are_there(tmp_path):
    session = TinySession(config_with(num_epochs=1), tmp_path)
    session()
    go_on(session, num_epochs=3)()
    assert [one.epoch for one in read_epochs(Path(session.run_dir))[0]] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert status_of(session).max_epochs == 3


def test_an_average_that_is_nan_is_written_as_json_has_it(tmp_path):
    run = Run(
        training=Phase("training", [1.0, float("nan")], is_training=True),
        max_epochs=1,
        run_directory=RunDirectory.create(tmp_path),
    )

    class Worst:
        @hookimpl
        def compute_phase_metrics(self):
            return {"worst": float("nan"), "most": float("inf")}

    Engine(lambda run, phase, batch: None, hooks=[Worst(), RunRecord()]).run(run)
    (line,) = (run.run_directory.path / "epochs.jsonl").read_text().splitlines()
    assert json.loads(line)["averages"] == {"worst": "nan", "most": "inf"}


class Around:
    @hookimpl(wrapper=True)
    def run_phase(self):
        return (yield)

    @hookimpl(tryfirst=True)
    def on_epoch_end(self):
        pass


def test_the_hooks_are_told_in_the_order_in_which_each_event_calls_them(tmp_path):
    session = TinySession(CONFIG, tmp_path)
    session.register(Around())
    session()
    order = read_hooks(Path(session.run_dir))
    assert list(order.classes) == list(session.hooks)
    assert order.classes["around"].endswith("test_run_record.Around")
    assert order.events["run_phase"] == (Listener("around", True), Listener("engine", False))
    assert [one.name for one in order.events["on_epoch_end"]] == [
        "around",
        "charts",
        "console",
        "run_record",
        "checkpoint",
    ]
    assert "on_gradients_ready" not in order.events


def test_without_a_run_directory_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = Run(training=Phase("training", [1], is_training=True), max_epochs=1)
    Engine(lambda run, phase, batch: None, hooks=[RunRecord()]).run(run)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_refuses_is_warned_of_once_and_training_goes_on(tmp_path, caplog):
    session = TinySession(config_with(num_epochs=3), tmp_path)
    for name in ("status.json", "epochs.jsonl", "hooks.json"):  # nothing can be written in the place of a folder
        Path(session.run_dir, name).mkdir()
    with caplog.at_level(logging.WARNING, "torchbase"):
        summary = session()
    assert summary.averages == TinySession(config_with(num_epochs=3), tmp_path)().averages
    told = [record.message for record in caplog.records if "can't be written" in record.message]
    assert len(told) == 1
    assert f"The record of the run in {session.run_dir} can't be written" in told[0]
    assert "training continues" in told[0]


def test_a_disk_that_is_full_for_a_while_leaves_whole_lines(tmp_path, monkeypatch):
    class Fill:
        @hookimpl
        def on_epoch_start(self, run):
            file = run.run_directory.path / "epochs.jsonl"
            if run.epoch == 2:
                file.rename(file.with_suffix(".aside"))
                file.symlink_to("/dev/full")
            if run.epoch == 3:
                file.unlink()
                file.with_suffix(".aside").rename(file)

    session = TinySession(config_with(num_epochs=3), tmp_path)
    session.register(Fill())
    session()
    epochs, damaged = read_epochs(Path(session.run_dir))
    assert [one.epoch for one in epochs] == [1, 1, 1, 3, 3, 3]
    assert damaged == 0


def test_a_damaged_status_does_not_keep_a_run_from_going_on(tmp_path, caplog):
    session = TinySession(config_with(num_epochs=1), tmp_path)
    session()
    Path(session.run_dir, "status.json").write_bytes(b'{"state": ')
    go_on(session, num_epochs=2)()
    assert status_of(session).epochs_done == 2
    assert "The start time of the run is lost and set to now" in caplog.text


def test_it_does_nothing_in_an_iteration():
    events = [name for name in dir(RunRecord) if hasattr(getattr(RunRecord, name), "torchbase_impl")]
    assert sorted(events) == ["on_epoch_end", "on_exception", "on_phase_end", "on_run_end", "on_run_start"]
