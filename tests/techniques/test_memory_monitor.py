from functools import partial

import numpy as np
import pytest
import several
from every_technique import check_resumes_exactly, session_with, training_differences

from torchbase import Engine, Phase, Run, hookimpl
from torchbase.errors import HookError, IntervalError
from torchbase.hooks import MemoryMonitor
from torchbase.techniques import memory_monitor, memory_use
from torchbase.testing import check_hook

GIB = 2**30


class Recorder:
    """Has the logged values of memory by name, unit and step."""

    def __init__(self):
        self.logged = {}

    @hookimpl
    def log_scalars(self, scalars, step):
        for tag, value in scalars.items():
            _, name, unit = tag.split("/")
            if "memory" in name:
                assert (step, unit, name) not in self.logged
                self.logged[step, unit, name] = value

    def of(self, name, unit="iterations"):
        return {step: value for (step, its_unit, one), value in self.logged.items() if (its_unit, one) == (unit, name)}


class Uses:
    """Uses memory in one iteration only."""

    def __init__(self, iteration):
        self.iteration = iteration

    @hookimpl(tryfirst=True)
    def on_iteration_end(self, phase):
        size = 2**27 if phase.progress.iterations == self.iteration else 1
        self.used = np.ones(size, dtype=np.uint8)


def run_with(*hooks, epochs=2, **arguments):
    run = Run(training=Phase("training", [1, 2, 3, 4], is_training=True), max_epochs=epochs, **arguments)
    Engine(lambda run, phase, batch: None, hooks).run(run)


def test_the_memory_of_the_host_is_logged_with_the_peak_of_each_epoch(caplog):
    recorder = Recorder()
    with caplog.at_level("INFO", "torchbase"):
        run_with(Uses(6), MemoryMonitor("2it"), recorder, epochs=3)
    host, peaks = recorder.of("host_memory_gib"), recorder.of("host_memory_peak_gib", "epochs")
    assert list(host) == [2, 4, 6, 8, 10, 12]
    assert host[6] - host[4] > 0.1
    assert host[8] < host[6] - 0.1
    assert list(peaks) == [1, 2, 3]
    assert peaks[2] >= host[6] * 0.99
    assert peaks[3] < peaks[2] - 0.1
    assert f"Memory at most: host {peaks[2]:.3g} GiB" in caplog.text
    assert recorder.of("worker_memory_gib") == {}


def test_a_peak_between_the_intervals_counts_if_it_is_the_highest_of_the_process(monkeypatch):
    recorder = Recorder()

    class Process:
        peak = 10 * GIB  # from before the run

        @hookimpl
        def on_iteration_start(self, run):
            if run.progress.iterations == 5:
                self.peak = 12 * GIB

    process = Process()
    monkeypatch.setattr(memory_monitor, "resident_memory", lambda ids: GIB)
    monkeypatch.setattr(memory_monitor, "peak_of_this_process", lambda: process.peak)
    run_with(process, MemoryMonitor("4it"), recorder, epochs=3)
    assert recorder.of("host_memory_gib") == {4: 1.0, 8: 1.0, 12: 1.0}
    assert recorder.of("host_memory_peak_gib", "epochs") == {1: 1.0, 2: 12.0, 3: 1.0}


@pytest.mark.parametrize(
    ("every", "unit", "steps"), [("3it", "iterations", [3, 6]), ("2ep", "epochs", [2]), ("1000s", "iterations", [])]
)
def test_each_unit_of_intervals(every, unit, steps):
    recorder = Recorder()
    run_with(MemoryMonitor(every), recorder)
    assert list(recorder.of("host_memory_gib", unit)) == steps
    assert list(recorder.of("host_memory_peak_gib", "epochs")) == [1, 2]


def test_seconds_go_by_the_clock_that_all_processes_share(monkeypatch):
    recorder = Recorder()
    run = Run(training=Phase("training", [1] * 8, is_training=True), max_epochs=1)
    monkeypatch.setattr(run.processes, "now", lambda: float(run.progress.iterations), raising=False)
    Engine(lambda run, phase, batch: None, [MemoryMonitor("3s"), recorder]).run(run)
    assert list(recorder.of("host_memory_gib")) == [3, 6]


class Device:
    """Has a peak that torch counts, between the moments at which memory is logged."""

    def __init__(self):
        self.allocated, self.peak, self.resets = 1 * GIB, 1 * GIB, 0

    @hookimpl
    def on_iteration_start(self, run):
        self.peak = max(self.peak, (1 + run.epoch) * GIB)

    def memory(self, device):
        return {"allocated": self.allocated, "reserved": 5 * GIB, "peak": self.peak}

    def reset(self, device):
        self.peak, self.resets = self.allocated, self.resets + 1


@pytest.fixture
def device(monkeypatch):
    made = Device()
    monkeypatch.setattr(memory_monitor, "device_memory", made.memory)
    monkeypatch.setattr(memory_monitor, "reset_peak", made.reset)
    return made


def test_the_memory_of_a_device_has_a_peak_for_each_epoch(device, caplog):
    recorder = Recorder()
    with caplog.at_level("INFO", "torchbase"):
        run_with(device, MemoryMonitor("4it"), recorder)
    assert recorder.of("device_memory_allocated_gib") == {4: 1.0, 8: 1.0}
    assert recorder.of("device_memory_reserved_gib") == {4: 5.0, 8: 5.0}
    assert recorder.of("device_memory_peak_gib") == {4: 2.0, 8: 3.0}
    assert recorder.of("device_memory_peak_gib", "epochs") == {1: 2.0, 2: 3.0}
    assert device.resets == 2
    assert caplog.messages[-1].endswith("GiB, device 3 GiB")


def test_a_reset_by_the_user_loses_no_peak_that_was_seen(device):
    class Resets:
        @hookimpl
        def on_iteration_end(self, phase):
            if phase.progress.iterations == 3:
                device.peak = device.allocated = 0

        @hookimpl
        def on_iteration_start(self):
            device.peak = max(device.peak, device.allocated)

    recorder = Recorder()
    device.peak = 7 * GIB
    run_with(device, MemoryMonitor("2it"), Resets(), recorder, epochs=1)
    assert recorder.of("device_memory_peak_gib", "epochs") == {1: 2.0}


def test_a_device_without_a_count_of_the_peak_has_that_of_the_intervals(device, monkeypatch):
    monkeypatch.setattr(memory_monitor, "device_memory", lambda device: {"allocated": GIB, "reserved": GIB})
    recorder = Recorder()
    run_with(MemoryMonitor("4it"), recorder)
    assert recorder.of("device_memory_peak_gib", "epochs") == {1: 1.0, 2: 1.0}


def test_it_observes_and_a_resumed_run_continues_exactly(tmp_path, monkeypatch):
    # What is used differs from run to run.
    monkeypatch.setattr(memory_monitor, "resident_memory", lambda ids: GIB)
    monkeypatch.setattr(memory_monitor, "peak_of_this_process", lambda: GIB)
    session = check_resumes_exactly(tmp_path, lambda: [MemoryMonitor("2it")])
    plain = session_with(tmp_path / "plain", dropout=0.3)
    plain()
    assert training_differences(session, plain) == []


@pytest.mark.thorough
def test_it_passes_the_checks_of_a_hook():
    check_hook(partial(MemoryMonitor, "2it"), observes=True, processes=2)


def memory_of_process(index, folder):
    recorder = Recorder()
    used = np.ones(2**26 * index, dtype=np.uint8)
    alone = memory_use.resident_memory(["self"]) / GIB
    session_with(folder, MemoryMonitor("2it"), recorder, mini_batch_size=6, num_epochs=1)()
    return alone, recorder.logged, len(used)


def test_of_several_processes_the_largest_is_logged_once(tmp_path):
    (_, logged, _), (larger, other, _) = several.values_of(2, memory_of_process, tmp_path)
    assert other == {}
    assert logged[2, "iterations", "host_memory_gib"] > larger * 0.9


def test_the_memory_of_workers_is_logged_if_there_are_any(monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr(memory_monitor, "worker_ids", lambda: [1, 2])
    monkeypatch.setattr(memory_monitor, "resident_memory", lambda ids: len(ids) * GIB)
    run_with(MemoryMonitor("4it"), recorder)
    assert recorder.of("host_memory_gib") == {4: 1.0, 8: 1.0}
    assert recorder.of("worker_memory_gib") == {4: 2.0, 8: 2.0}


def test_a_system_that_does_not_count_memory_is_an_error_before_training(monkeypatch):
    def refuse(ids):
        raise HookError("no memory")

    monkeypatch.setattr(memory_monitor, "resident_memory", refuse)
    run = Run(training=Phase("training", [1], is_training=True), max_epochs=1)
    with pytest.raises(HookError, match="no memory"):
        Engine(lambda run, phase, batch: None, [MemoryMonitor()]).run(run)
    assert run.progress.iterations == 0


def test_an_invalid_interval_raises():
    with pytest.raises(IntervalError, match="An interval has to be"):
        MemoryMonitor("often")
