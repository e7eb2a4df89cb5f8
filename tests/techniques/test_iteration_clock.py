from types import SimpleNamespace

import pytest
import torch

from torchbase import Engine, Phase, Run, hookimpl
from torchbase.hooks import Throughput
from torchbase.techniques import iteration_clock
from torchbase.techniques.iteration_clock import DeviceClock


class Accelerator:
    """A device that works beside the host, and passes events when it has reached them."""

    def __init__(self):
        self.host = self.free_at = 0.0
        self.waited = False

    def work(self, seconds):
        self.free_at = max(self.free_at, self.host) + seconds

    def wait(self):
        self.host = max(self.host, self.free_at)

    def current_stream(self, device):
        return device

    def Event(self, *, enable_timing):  # noqa: N802
        assert enable_timing
        accelerator = self

        class Event:
            def record(self, stream):
                self.at = max(accelerator.free_at, accelerator.host)

            def query(self):
                return self.at <= accelerator.host

            def elapsed_time(self, other):
                assert self.query()
                assert other.query()
                return (other.at - self.at) * 1000

        return Event()


@pytest.fixture
def accelerator(monkeypatch):
    made = Accelerator()
    monkeypatch.setattr(torch, "get_device_module", lambda device: made)
    monkeypatch.setattr(iteration_clock, "perf_counter", lambda: made.host)
    return made


def test_events_are_read_once_the_device_has_passed_them(accelerator):
    clock = DeviceClock("cuda")
    for number in (1, 2):
        clock.start_iteration()
        accelerator.work(3.0)
        clock.end_iteration(number, paused=0.0)
    assert not clock.read(1)
    assert (clock.total, clock.busy) == (0.0, 0.0)
    accelerator.host = 3.0
    assert clock.read(1)
    assert not clock.read(2)
    assert (clock.total, clock.busy) == (3.0, 3.0)
    accelerator.host = 8.0
    assert clock.read(2)
    clock.start_iteration()  # the device was idle for two seconds
    accelerator.work(3.0)
    clock.end_iteration(3, paused=0.0)
    accelerator.host = 31.0
    clock.start_iteration()  # for twenty seconds, fifteen of them in a pause
    accelerator.work(3.0)
    clock.end_iteration(4, paused=15.0)
    accelerator.wait()
    assert clock.read(4)
    assert (clock.total, clock.busy) == (6.0 + 2.0 + 3.0 + 5.0 + 3.0, 12.0)


class Values:
    """Issues an iteration in half a second of the host, for which the device needs four."""

    def __init__(self, accelerator):
        self.accelerator, self.logged = accelerator, {}

    @hookimpl
    def run_iteration(self, run, phase):
        self.accelerator.host += 0.5
        self.accelerator.work(4.0)
        phase.samples = 8
        run.log("value", 1.0)

    @hookimpl
    def log_scalars(self, scalars, step):
        self.logged[step] = {tag.split("/")[1]: value for tag, value in scalars.items()}


class Device(SimpleNamespace):
    type = "cuda"


def test_on_an_accelerator_rates_go_by_its_clock_and_nothing_waits_for_it(accelerator, monkeypatch):
    def read():
        for _ in range(130):
            accelerator.host += 1.0
            yield None

    class Epoch:
        def __iter__(self):
            return read()

        def __len__(self):
            return 130

    hook = Values(accelerator)
    run = Run(training=Phase("training", Epoch(), is_training=True), max_epochs=1, device=Device())
    block = run.training.block
    monkeypatch.setattr(block, "read", lambda read=block.read: (accelerator.wait(), read())[1])
    monkeypatch.setattr(run.processes, "now", lambda: 0.0, raising=False)
    Engine(hooks=[hook, Throughput("50it")]).run(run)
    rates = hook.logged
    assert list(rates) == [50, 100]
    for values in rates.values():
        assert values["samples_per_second"] == pytest.approx(8 / 4, rel=0.02)  # 4 s of the device, 1.5 s of the host
        assert values["share_of_device"] == pytest.approx(1.0, abs=0.02)
