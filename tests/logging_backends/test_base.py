import logging
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from tiny import CONFIG, TinySession, config_with

from torchbase import Engine, Phase, Run, hookimpl
from torchbase.hooks import LogValues
from torchbase.logging_backends import writer_thread
from torchbase.logging_backends.base import LoggingBackend
from torchbase.logging_backends.records import ChartLayout, Histogram, HyperParameters, Image, Scalars, Text

SECONDS_AT_MOST = 60.0  # far more than needed, so that it is a hang that fails and not a busy machine


class Memory(LoggingBackend):
    """Stores records in memory, and the calls of its methods with their threads."""

    def __init__(self):
        self.records, self.calls, self.threads = [], [], set()

    def _note(self, call):
        self.calls.append(call)
        self.threads.add(threading.current_thread())

    def begin(self, run):
        self._note("begin")

    def open(self, run):
        self._note("open")

    def write(self, record):
        self._note("write")
        self.records.append(record)

    def flush(self):
        self._note("flush")

    def close(self):
        self._note("close")


class LogAtEnd:
    """Logs something at the end of the run."""

    def __init__(self, log):
        self.log = log

    @hookimpl
    def on_run_end(self, run):
        self.log(run)


def run_of(batches=3, epochs=1):
    return Run(training=Phase("training", range(batches), is_training=True), max_epochs=epochs)


def log_batch(run, phase, batch):
    run.log("v", float(batch))


def scalars_of(backend):
    return [
        (tag, record.step, value)
        for record in backend.records
        if isinstance(record, Scalars)
        for tag, value in record.values.items()
    ]


def test_one_thread_of_the_backend_opens_writes_flushes_and_closes():
    backend = Memory()
    before = time.time()
    Engine(log_batch, hooks=[LogValues(), backend]).run(run_of())
    assert scalars_of(backend) == [("training/v/iterations", step, step - 1.0) for step in (1, 2, 3)]
    assert backend.calls[:3] == ["begin", "open", "write"]
    assert backend.calls[-2:] == ["flush", "close"]
    assert backend.calls.count("open") == backend.calls.count("close") == 1
    (thread,) = backend.threads
    assert thread is not threading.current_thread()
    assert not thread.is_alive()
    assert all(before <= record.time <= time.time() for record in backend.records)


def test_records_of_all_kinds_are_written_and_share_no_memory_with_the_training():
    layout, image, values = {"losses": {"loss": ["a", "b"]}}, torch.zeros(1, 2, 2), torch.zeros(3)
    hparams = {"rate": 0.1}

    def log(run):
        figure = Figure(figsize=(1, 1), dpi=10)
        run.call.log_scalars(run=run, scalars={"a": torch.tensor(1.5), "b": np.float32(2)}, step=1)
        run.call.log_hparams(run=run, hparams=hparams, metrics={"a": 1.0})
        run.call.log_text(run=run, tag="t", text="**x**", step=2)
        run.call.log_image(run=run, tag="i", image=image, step=3)
        run.call.log_figure(run=run, tag="f", figure=figure, step=4)
        run.call.log_histogram(run=run, tag="h", values=values, step=5)
        run.call.log_layout(run=run, layout=layout)
        for changed in (image, values):
            changed.fill_(1)
        hparams["rate"] = 0.0
        layout["losses"]["loss"].clear()

    backend = Memory()
    Engine(lambda run, phase, batch: None, hooks=[backend, LogAtEnd(log)]).run(run_of())
    scalars, hyper, text, image_, figure, histogram, charts = backend.records
    assert scalars.values == {"a": 1.5, "b": 2.0}
    assert {type(value) for value in scalars.values.values()} == {float}
    assert isinstance(hyper, HyperParameters)
    assert (hyper.values, hyper.metrics) == ({"rate": 0.1}, {"a": 1.0})
    assert text[:3] == ("t", "**x**", 2)
    assert isinstance(text, Text)
    assert isinstance(image_, Image)
    assert image_.pixels.max() == 0
    assert isinstance(figure, Image)
    assert figure.is_figure
    assert isinstance(histogram, Histogram)
    assert histogram.values.tolist() == [0, 0, 0]
    assert isinstance(charts, ChartLayout)
    assert charts.layout == {"losses": {"loss": ["a", "b"]}}


def test_records_are_flushed_during_the_run():
    class Flushed(Memory):
        def __init__(self):
            super().__init__()
            self.is_flushed = threading.Event()

        def flush(self):
            self.is_flushed.set()

    backend = Flushed()

    def step(run, phase, batch):
        run.call.log_scalars(run=run, scalars={"v": 1.0}, step=1)
        assert backend.is_flushed.wait(SECONDS_AT_MOST)

    Engine(step, hooks=[backend]).run(run_of(batches=1))
    assert backend.records


def test_nothing_is_recorded_before_and_after_a_run():
    backend = Memory()
    engine = Engine(log_batch, hooks=[LogValues(), backend])
    run = run_of()
    engine.call.log_scalars(run=run, scalars={"a": 1.0}, step=1)
    assert backend.state_dict() == {}
    engine.run(run)
    engine.call.log_text(run=run, tag="a", text="b", step=1)
    assert len(scalars_of(backend)) == 3
    assert not any(isinstance(record, Text) for record in backend.records)
    run.max_epochs = 2
    engine.run(run)
    assert len(scalars_of(backend)) == 6
    assert backend.calls.count("begin") == 2


def test_everything_is_written_and_closed_after_an_error():
    def step(run, phase, batch):
        run.log("v", float(batch))
        if batch == 2:
            raise KeyError

    backend = Memory()
    with pytest.raises(KeyError):
        Engine(step, hooks=[LogValues(), backend]).run(run_of())
    assert len(backend.records) == 2
    assert backend.calls[-2:] == ["flush", "close"]


def test_a_checkpoint_waits_until_all_records_are_written(tmp_path):
    class Slow(Memory):
        def write(self, record):
            time.sleep(0.002)
            super().write(record)

    written = []

    class AfterCheckpoint:
        # Of the hooks that ask to be last, this is called before Checkpoint, which collects the states after it.
        @hookimpl
        def on_epoch_start(self, run):
            written.append(len([record for record in backend.records if isinstance(record, Scalars)]))

    backend = Slow()
    session = TinySession(CONFIG, tmp_path)
    session.register(backend)
    session.register(AfterCheckpoint())
    session()
    assert written == [0, 5 + 3 + 2 + 3]  # the iterations and the epoch of each phase


# Errors.


class Failing(Memory):
    """Fails in one of its methods, from one call to another."""

    def __init__(self, method, error, first=0, last=10**9):
        super().__init__()
        self.method, self.error, self.first, self.last, self.calls_of_method = method, error, first, last, 0

    def _note(self, call):
        super()._note(call)
        if call == self.method:
            self.calls_of_method += 1
            if self.first < self.calls_of_method <= self.last:
                raise self.error


def train(tmp_path, backend, with_session, policy):
    """Trains with a session or an engine, and with the backend under the name 'mine'."""
    if not with_session:
        engine, run = Engine(log_batch, [LogValues()], on_logging_error=policy), run_of(epochs=2)
        engine.register(backend, "mine")
        engine.run(run)
        assert run.epochs_done == 2
    else:
        session = TinySession(config_with(on_logging_error=policy), tmp_path)
        session.register(backend, "mine")
        assert session().epochs_done == 2


@pytest.mark.parametrize("method", ["begin", "open", "write", "flush", "close"])
@pytest.mark.parametrize("with_session", [True, False])
def test_an_error_is_logged_once_with_the_name_of_the_backend(tmp_path, caplog, method, with_session):
    backend = Failing(method, ConnectionError("the server is gone"))
    backend.seconds_until_tried_again = 0.0
    with caplog.at_level(logging.WARNING, "torchbase"):
        train(tmp_path, backend, with_session, "warn")
    (warning,) = [record.message for record in caplog.records if "mine" in record.message]
    assert warning.startswith("mine can't write what is logged, so some values will be missing there; training ")
    assert "ConnectionError: the server is gone" in warning


@pytest.mark.parametrize("method", ["begin", "open", "write", "flush", "close"])
@pytest.mark.parametrize("with_session", [True, False])
def test_an_error_that_is_raised_has_the_name_of_the_backend(tmp_path, method, with_session):
    backend = Failing(method, ConnectionError("the server is gone"))
    with pytest.raises(ConnectionError, match="the server is gone") as caught:
        train(tmp_path, backend, with_session, "raise")
    assert caught.value is backend.error
    assert "mine can't write what is logged" in caught.value.__notes__


def test_an_error_is_raised_at_the_next_iteration():
    backend = Failing("write", ConnectionError())
    done = []

    def step(run, phase, batch):
        run.call.log_scalars(run=run, scalars={"v": 1.0}, step=1)
        backend.state_dict()  # waits for the thread
        done.append(batch)

    with pytest.raises(ConnectionError):
        Engine(step, hooks=[backend]).run(run_of(batches=10))
    assert done == [0]


def test_an_error_of_the_training_takes_precedence():
    class Fails:
        @hookimpl
        def on_run_end(self, run):
            raise KeyError("first")

    with pytest.raises(KeyError, match="first") as caught:
        Engine(log_batch, hooks=[LogValues(), Failing("write", ConnectionError("gone")), Fails()]).run(run_of())
    assert "failing can't write what is logged: ConnectionError: gone" in caught.value.__notes__


def test_records_in_the_pause_after_an_error_are_dropped(caplog, monkeypatch):
    backend = Failing("write", ConnectionError(), first=2, last=3)
    backend.seconds_until_tried_again = 60.0
    written, now = [], [100.0]
    monkeypatch.setattr("torchbase.logging_backends.recording.time", SimpleNamespace(monotonic=lambda: now[-1]))

    def step(run, phase, batch):
        now.append(100.0 + (100.0 if batch >= 7 else batch))
        run.call.log_scalars(run=run, scalars={"v": float(batch)}, step=batch)
        backend.state_dict()
        written.append(len(backend.records))

    Engine(step, hooks=[backend], on_logging_error="warn").run(run_of(batches=10))
    assert [record.step for record in backend.records] == [0, 1, 7, 8, 9]
    assert [call for call in backend.calls if call in ("open", "close")] == ["open", "close", "open", "close"]
    assert len(caplog.records) == 1


class Hanging(Memory):
    """Hangs at a record, until it may end."""

    seconds_of_patience = 0.3

    def __init__(self, after=0):
        super().__init__()
        self.after = after
        self.hangs, self.may_end, self.goes_on = (threading.Event() for _ in range(3))

    def write(self, record):
        if len(self.records) == self.after:
            self.hangs.set()
            self.may_end.wait(SECONDS_AT_MOST)
        elif len(self.records) > self.after:
            self.goes_on.set()
        super().write(record)


class WaitsUntilItHangs:
    """Lets the training wait for the hang: on a busy machine the backend may count as stuck before it."""

    def __init__(self, backend):
        self.backend = backend

    @hookimpl(tryfirst=True)
    def on_epoch_end(self):
        assert self.backend.hangs.wait(SECONDS_AT_MOST)


@pytest.fixture
def patience_taken(monkeypatch):
    """The names of the threads that a caller waited for in vain, one for each time."""
    taken, wait_until = [], writer_thread.WriterThread._wait_until

    def noted(thread, is_so):
        was_stuck = thread._is_stuck
        answer = wait_until(thread, is_so)
        if thread._is_stuck and not was_stuck:
            taken.append(thread._thread.name)
        return answer

    monkeypatch.setattr(writer_thread.WriterThread, "_wait_until", noted)
    return taken


def test_the_training_waits_once_for_a_backend_that_hangs_and_others_lose_nothing(tmp_path, caplog, patience_taken):
    hanging, other = Hanging(after=5), Memory()
    session = TinySession(config_with(num_epochs=3), tmp_path)
    for hook in (hanging, other, WaitsUntilItHangs(hanging)):
        session.register(hook)
    with caplog.at_level(logging.WARNING, "torchbase"):
        assert session().epochs_done == 3
    hanging.may_end.set()
    assert patience_taken == ["torchbase hanging"]
    (warning,) = [record.message for record in caplog.records if "hanging" in record.message]
    assert "TimeoutError: it makes no progress; waited 0.3 seconds for it" in warning
    assert len(scalars_of(other)) > 30
    assert scalars_of(hanging) == scalars_of(other)[: len(scalars_of(hanging))]


def test_a_backend_that_hangs_is_an_error():
    hanging = Hanging()
    with pytest.raises(TimeoutError, match="makes no progress"):
        Engine(log_batch, hooks=[LogValues(), hanging]).run(run_of())
    hanging.may_end.set()


def test_records_are_dropped_when_too_many_are_queued(monkeypatch, caplog, patience_taken):
    monkeypatch.setattr(writer_thread, "MAXIMUM_BYTES_WAITING", 2**16)
    hanging = Hanging()

    def step(run, phase, batch):
        run.call.log_scalars(run=run, scalars={"v": float(batch)}, step=batch)
        if batch == 0:
            assert hanging.hangs.wait(SECONDS_AT_MOST)
        if batch == 4999:
            hanging.may_end.set()
            assert hanging.goes_on.wait(SECONDS_AT_MOST)

    Engine(step, hooks=[hanging], on_logging_error="warn").run(run_of(batches=5000))
    assert patience_taken == ["torchbase hanging"]
    (warning,) = caplog.messages
    assert "TimeoutError: it accepts no more records, and too many are queued" in warning
    steps = [record.step for record in hanging.records]
    assert steps == list(range(len(steps)))
    assert 2**16 // 450 <= len(steps) < 5000


def test_an_invalid_record_affects_no_other_record(caplog):
    def log(run):
        run.call.log_image(run=run, tag="i", image=torch.zeros(7), step=1)
        run.call.log_text(run=run, tag="t", text="b", step=1)

    backend = Memory()
    with caplog.at_level(logging.WARNING, "torchbase"):
        Engine(log_batch, hooks=[backend, LogAtEnd(log)], on_logging_error="warn").run(run_of())
    assert [type(record) for record in backend.records] == [Text]
    (warning,) = caplog.messages
    assert warning.startswith("memory can't record ")


# Workers.

LOCK = threading.Lock()


class LockedSession(TinySession):
    """Needs a lock in its workers, as they may need the locks of imports and of standard output."""

    def dataloader_collate_function(self, batch):
        if not LOCK.acquire(timeout=SECONDS_AT_MOST):
            raise TimeoutError
        LOCK.release()
        return super().dataloader_collate_function(batch)


class HoldsTheLock(Memory):
    def __init__(self):
        super().__init__()
        self.holds_it = threading.Event()

    def write(self, record):
        with LOCK:
            self.holds_it.set()
            time.sleep(0.005)
            super().write(record)


class LogBeforeFork:
    """Logs many texts right before workers are forked."""

    def __init__(self, backend):
        self.backend = backend

    @hookimpl(trylast=True)
    def on_phase_start(self, run, phase):
        self.backend.state_dict()  # waits for earlier records
        self.backend.holds_it.clear()
        for number in range(60):
            run.call.log_text(run=run, tag=phase.name, text=str(number), step=run.epoch)
        assert self.backend.holds_it.wait(SECONDS_AT_MOST)


@pytest.mark.parametrize("workers", [2])
def test_workers_are_forked_while_the_thread_holds_no_lock(tmp_path, workers):
    session = LockedSession(config_with(num_epochs=1, dataloader_num_workers=workers), tmp_path)
    backend = HoldsTheLock()
    session.register(backend)
    session.register(LogBeforeFork(backend))
    assert session().epochs_done == 1
    assert len([record for record in backend.records if isinstance(record, Text)]) == 180
