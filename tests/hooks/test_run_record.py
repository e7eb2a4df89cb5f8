import json
import logging
import os
import socket
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tiny import CONFIG, StopAt, TinySession, config_with

from torchbase import Engine, Phase, Run, hookimpl
from torchbase.errors import CheckpointError
from torchbase.hooks import RunRecord
from torchbase.listeners import Listener
from torchbase.metrics import BaseMetricsClass, higher_is_better, lower_is_better
from torchbase.run_directory.directory import RunDirectory
from torchbase.run_directory.record import read_epochs, read_hooks, read_status
from torchbase.run_directory.status import Best
from torchbase.run_directory.value_ranges import extend


def status_of(session):
    return read_status(Path(session.run_dir))


def lines_of(session):
    return Path(session.run_dir, "epochs.jsonl").read_text()


def resume(session, **config):
    folder = Path(session.run_dir)
    arguments = {"create_run_dir_afresh": False, "source_run_dir_tag": folder.name}
    return TinySession(config_with(**config), folder.parent, **arguments)


def test_the_status_of_a_finished_run_is_complete(tmp_path):
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


def test_each_phase_of_each_epoch_has_a_line_with_its_averages(tmp_path):
    session = TinySession(CONFIG, tmp_path)
    summary = session()
    epochs, damaged = read_epochs(Path(session.run_dir))
    assert damaged == 0
    assert [(line.epoch, line.phase, line.iterations) for line in epochs] == [
        (1, "training", 5),
        (1, "validation-valid", 5),
        (1, "validation-demo", 5),
        (2, "training", 10),
        (2, "validation-valid", 10),
        (2, "validation-demo", 10),
    ]
    assert {line.phase: line.averages for line in epochs[3:]} == summary.averages


def test_the_status_is_written_at_the_start_and_at_the_end_of_each_epoch(tmp_path):
    seen = []

    class RecordStatus:
        @hookimpl(trylast=True)
        def on_run_start(self, run):
            seen.append(read_status(run.run_directory.path))

        @hookimpl
        def on_epoch_start(self, run):
            seen.append(read_status(run.run_directory.path))

    session = TinySession(CONFIG, tmp_path)
    session.register(RecordStatus())
    session()
    assert [(status.state, status.epochs_done, status.iterations) for status in seen] == [
        ("running", 0, 0),
        ("running", 0, 0),
        ("running", 1, 5),
    ]
    assert seen[-1].best_losses["validation-valid"].epoch == 1


def test_the_status_of_a_stopped_run_has_the_reason_until_it_is_resumed(tmp_path):
    session = TinySession(CONFIG, tmp_path)
    session.register(StopAt(7))
    session()
    status = status_of(session)
    assert (status.state, status.reason, status.epochs_done, status.iterations) == ("stopped", "for the test", 1, 7)
    resume(session)()
    resumed = status_of(session)
    assert (resumed.state, resumed.reason, resumed.epochs_done) == ("finished", None, 2)
    assert resumed.started_at == status.started_at
    assert resumed.resumed_at >= status.updated_at


class RaiseInSecondEpoch:
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
def test_the_reason_of_the_end_is_a_single_line(tmp_path, error, state, reason):
    session = TinySession(CONFIG, tmp_path)
    session.register(RaiseInSecondEpoch(error))
    with pytest.raises(type(error)):
        session()
    assert (status_of(session).state, status_of(session).reason) == (state, reason)


def test_a_signal_is_the_reason_although_it_is_raised_again(tmp_path):
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


def test_a_failed_resume_does_not_change_the_status(tmp_path):
    session = TinySession(CONFIG, tmp_path)
    session()
    before = status_of(session)
    for file in Path(session.run_dir).glob("states/checkpoint-*/network.pth"):
        file.write_bytes(b"")
    with pytest.raises(CheckpointError):
        resume(session)()
    assert status_of(session) == before


class ProgramEnd(BaseException):
    """Ends the program in the middle of a run, without a further checkpoint."""


class EndAt(StopAt):
    """Ends a run like a kill, as far as files are concerned."""

    @hookimpl
    def on_iteration_end(self, run, phase):
        if phase.name == self.phase and phase.progress.iterations == self.iteration:
            raise ProgramEnd


@pytest.mark.parametrize("how", [StopAt, EndAt])
@pytest.mark.parametrize("where", ["training 4", "training 5", "training 8", "validation-valid 2", "validation-demo 3"])
def test_a_resumed_run_has_the_lines_of_an_uninterrupted_run(tmp_path, how, where):
    whole = TinySession(CONFIG, tmp_path)
    whole()
    phase, iteration = where.split()
    stopped = TinySession(config_with(checkpoint_every_n_iterations=3), tmp_path)
    stopped.register(how(int(iteration), phase))
    with pytest.raises(ProgramEnd) if how is EndAt else nullcontext():
        stopped()
    stopped._run_directory.writes.join()  # the threads of a program end with it
    stopped._run_directory.unlock()
    resume(stopped)()
    assert lines_of(stopped) == lines_of(whole)
    assert status_of(stopped).best_losses == status_of(whole).best_losses


def test_more_epochs_are_appended(tmp_path):
    session = TinySession(config_with(num_epochs=1), tmp_path)
    session()
    resume(session, num_epochs=3)()
    assert [line.epoch for line in read_epochs(Path(session.run_dir))[0]] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert status_of(session).max_epochs == 3


def test_nan_and_infinity_are_written_as_text(tmp_path):
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


class Wrapper:
    @hookimpl(wrapper=True)
    def run_phase(self):
        return (yield)

    @hookimpl(tryfirst=True)
    def on_epoch_end(self):
        pass


def test_the_hooks_are_in_the_order_in_which_each_event_calls_them(tmp_path):
    session = TinySession(CONFIG, tmp_path)
    session.register(Wrapper())
    session()
    order = read_hooks(Path(session.run_dir))
    assert list(order.classes) == list(session.hooks)
    assert order.classes["wrapper"].endswith("test_run_record.Wrapper")
    assert order.events["run_phase"] == (Listener("wrapper", True), Listener("engine", False))
    assert [listener.name for listener in order.events["on_epoch_end"]] == [
        "wrapper",
        "uncalled_hooks",
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


def test_a_disk_error_causes_one_warning_and_training_continues(tmp_path, caplog):
    session = TinySession(config_with(num_epochs=3), tmp_path)
    for name in ("status.json", "epochs.jsonl", "hooks.json"):  # a folder in its place prevents writing the file
        Path(session.run_dir, name).mkdir()
    with caplog.at_level(logging.WARNING, "torchbase"):
        summary = session()
    assert summary.averages == TinySession(config_with(num_epochs=3), tmp_path)().averages
    messages = [record.message for record in caplog.records if "can't be written" in record.message]
    assert len(messages) == 1
    assert f"The record of the run in {session.run_dir} can't be written" in messages[0]
    assert "training continues" in messages[0]


def test_a_full_disk_leaves_only_complete_lines(tmp_path, monkeypatch):
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
    assert [line.epoch for line in epochs] == [1, 1, 1, 3, 3, 3]
    assert damaged == 0


def test_a_run_with_a_damaged_status_can_be_resumed(tmp_path, caplog):
    session = TinySession(config_with(num_epochs=1), tmp_path)
    session()
    Path(session.run_dir, "status.json").write_bytes(b'{"state": ')
    resume(session, num_epochs=2)()
    assert status_of(session).epochs_done == 2
    assert "The start time of the run is lost and set to now" in caplog.text


def test_the_hook_does_nothing_in_iterations():
    events = [name for name in dir(RunRecord) if hasattr(getattr(RunRecord, name), "torchbase_impl")]
    assert sorted(events) == [
        "on_epoch_end",
        "on_epoch_start",
        "on_exception",
        "on_phase_end",
        "on_run_end",
        "on_run_start",
    ]


class Clock:
    """A clock that shows one more second each time, in place of the time module."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        self.now += 1.0
        return self.now


def test_the_duration_is_that_of_all_resumes_without_the_time_between_them(tmp_path, monkeypatch):
    clock = Clock()
    monkeypatch.setattr("torchbase.hooks.run_record.time", clock)
    session = TinySession(CONFIG, tmp_path)
    session.register(StopAt(7))
    session()
    first = status_of(session)
    # At the start, at the start and end of an epoch, and for each status: at the start, after the epoch, at the end.
    assert (first.seconds, first.epoch_seconds) == (6.0, 1.0)
    clock.now += 1000.0
    resume(session)()
    resumed = status_of(session)
    # It has not begun an epoch.
    assert (resumed.seconds, resumed.epoch_seconds) == (6.0 + 3.0, 1.0)
    clock.now += 1000.0
    resume(session, num_epochs=3)()
    assert status_of(session).epoch_seconds == 1.0
    assert status_of(session).seconds == 9.0 + 5.0


@pytest.mark.parametrize("how", [StopAt, EndAt])
def test_a_resumed_run_has_the_values_of_an_uninterrupted_run(tmp_path, how):
    whole = TinySession(CONFIG, tmp_path)
    whole()
    stopped = TinySession(config_with(checkpoint_every_n_iterations=3), tmp_path)
    stopped.register(how(2, "validation-valid"))
    with pytest.raises(ProgramEnd) if how is EndAt else nullcontext():
        stopped()
    stopped._run_directory.writes.join()
    stopped._run_directory.unlock()
    resume(stopped)()
    status = status_of(stopped)
    assert status.values == status_of(whole).values == extend({}, read_epochs(Path(whole.run_dir))[0])
    assert status.values["validation-valid"]["loss"].lowest == status.best_losses["validation-valid"].loss
    assert status.directions == {"loss": "min"}


def test_the_directions_of_metrics_are_recorded_where_they_are_declared(tmp_path):
    class Scores(BaseMetricsClass):
        @higher_is_better
        def score(self, *, output):
            return 1.0

        @lower_is_better
        def distance(self, *, output):
            return 1.0

        def size(self, *, output):
            return 1.0

    class WithMetrics(TinySession):
        def init_metrics(self):
            return [Scores()]

    config = {**config_with(), "metrics": {"Scores": ["score", "distance", "size"]}}
    session = WithMetrics(config, tmp_path)
    session()
    assert status_of(session).directions == {"loss": "min", "score": "max", "distance": "min"}
    assert set(status_of(session).values["training"]) == {"loss", "score", "distance", "size"}


def test_a_validation_within_an_epoch_updates_the_status(tmp_path):
    seen = []

    class RecordStatus:
        @hookimpl
        def on_iteration_start(self, run, phase):
            if phase.is_training:
                status = read_status(run.run_directory.path)
                seen.append((status.iterations, sorted(status.values)))

    class Within(TinySession):
        def init_datasets(self):
            training, validation = super().init_datasets()
            return training, replace(validation, every=("2it", "1ep"))

    session = Within(config_with(num_epochs=1), tmp_path)
    session.register(RecordStatus())
    session()
    within = (2, ["validation-valid"])
    assert seen[:3] == [(0, []), (0, []), within]
    assert seen[3] == within
