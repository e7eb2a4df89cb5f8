from dataclasses import replace
from functools import partial

import pytest
import several
from every_technique import check_resumes_exactly, session_with, training_differences
from tiny import StopAt, TinySession

from torchbase import Engine, Phase, Run, hookimpl
from torchbase.errors import IntervalError
from torchbase.hooks import GradientAccumulation, Throughput
from torchbase.testing import check_hook

NAMES = ["samples_per_second", "mini_batches_per_second", "share_of_data", "share_of_hooks", "share_of_device"]


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the test advances."""

    class Clock:
        now = 100.0

    monkeypatch.setattr("torchbase.techniques.iteration_clock.perf_counter", lambda: Clock.now)
    return Clock


class Recorder:
    """Has the logged values by step and name, and takes some time for them."""

    def __init__(self, clock=None):
        self.clock, self.logged = clock, {}

    @hookimpl
    def log_scalars(self, scalars, step):
        for tag, value in scalars.items():
            _, name, unit = tag.split("/")
            if name.endswith("_per_second") or name.startswith("share_of_"):
                assert (step, unit, name) not in self.logged
                self.logged[step, unit, name] = value

    def of(self, name, unit="iterations"):
        return {step: value for (step, its_unit, one), value in self.logged.items() if (its_unit, one) == (unit, name)}


class SlowSession(TinySession):
    """An iteration takes 1 s to read, 2 s to compute in training, and 500 s in validation."""

    clock = None

    def forward_pass(self, mini_batch):
        self.clock.now += 2.0 if self.network.training else 500.0
        return super().forward_pass(mini_batch)

    def dataloader_collate_function(self, batch):
        self.clock.now += 1.0
        return super().dataloader_collate_function(batch)


class SlowHook:
    """Takes 1 s in each training iteration, 1000 s at the end of an epoch, and 3000 s in each checkpoint."""

    def __init__(self, clock):
        self.clock = clock

    @hookimpl
    def on_iteration_end(self, phase):
        self.clock.now += phase.is_training

    @hookimpl
    def on_phase_end(self):
        self.clock.now += 1000.0

    def state_dict(self):
        self.clock.now += 3000.0
        return {}

    def load_state_dict(self, state):
        pass


class Weighed(TinySession):
    def infer_loss_weight(self, mini_batch):
        return 10.0 * len(mini_batch["x"])


def slow_kind(clock):
    return type("SlowTinySession", (SlowSession,), {"clock": clock, "__module__": __name__})


def slow_run(tmp_path, clock, *hooks, every="2it", **config):
    recorder = Recorder()
    config = {"checkpoint_every_n_iterations": 3, "num_epochs": 2, **config}
    session = session_with(
        tmp_path, Throughput(every), SlowHook(clock), recorder, *hooks, kind=slow_kind(clock), **config
    )
    session()
    return recorder


def test_rates_and_shares_are_those_of_training_without_validation_votes_and_checkpoints(tmp_path, clock, caplog):
    with caplog.at_level("INFO", "torchbase"):
        recorder = slow_run(tmp_path, clock)
    # The hooks after the second iteration belong to the next interval.
    assert recorder.of("mini_batches_per_second") == {2: 2 / 7, **dict.fromkeys((4, 6, 8, 10), 1 / 4)}
    # The epochs have four mini-batches of 4 samples and one of 2.
    assert recorder.of("samples_per_second") == {2: 8 / 7, 4: 1, 6: 6 / 8, 8: 1, 10: 6 / 8}
    assert recorder.of("share_of_data") == {2: 2 / 7, **dict.fromkeys((4, 6, 8, 10), 1 / 4)}
    assert recorder.of("share_of_hooks") == {2: 1 / 7, **dict.fromkeys((4, 6, 8, 10), 1 / 4)}
    assert recorder.of("share_of_device") == {2: 4 / 7, **dict.fromkeys((4, 6, 8, 10), 1 / 2)}
    line = "Throughput: 0.9 samples/s, 0.25 mini batches/s; data 25%, hooks 25%, device 50%"
    assert [one for one in caplog.messages if one.startswith("Throughput")] == [line]


@pytest.mark.parametrize(
    ("every", "unit", "rates"),
    [
        ("1ep", "epochs", {1: 5 / 20, 2: 5 / 20}),
        ("2ep", "epochs", {2: 10 / 40}),
        ("6.5s", "iterations", {2: 2 / 7, **dict.fromkeys((4, 6, 8, 10), 1 / 4)}),
        ("3it", "iterations", {3: 3 / 11, 6: 1 / 4, 9: 1 / 4}),
    ],
)
def test_each_unit_of_intervals(tmp_path, clock, every, unit, rates):
    recorder = slow_run(tmp_path, clock, every=every)
    assert recorder.of("mini_batches_per_second", unit) == rates
    assert len(recorder.logged) == len(rates) * len(NAMES)


def test_a_validation_within_an_epoch_is_left_out(tmp_path, clock):
    class Within(slow_kind(clock)):
        def init_datasets(self):
            training, validation = super().init_datasets()
            return training, replace(validation, every=("1it", "3it"))

    recorder = Recorder()
    session_with(tmp_path, Throughput("1it"), SlowHook(clock), recorder, kind=Within)()
    assert recorder.of("mini_batches_per_second") == {1: 1 / 3, **dict.fromkeys(range(2, 11), 1 / 4)}


def test_a_resumed_run_has_clean_rates_and_a_line_for_all_of_its_parts(tmp_path, clock, caplog):
    kind, logged = slow_kind(clock), {}
    session = session_with(tmp_path, Throughput("4it"), StopAt(6), kind=kind, num_epochs=2)
    for number in (1, 2):
        recorder = Recorder()
        session.register(recorder)
        with caplog.at_level("INFO", "torchbase"):
            session()
        logged[number] = recorder.of("mini_batches_per_second")
        clock.now += 10_000.0
        if number == 1:
            session = kind.resume(tmp_path)
            session.register(Throughput("4it"))
    assert logged == {1: {4: pytest.approx(1 / 3)}, 2: {8: pytest.approx(1 / 3)}}
    lines = [one for one in caplog.messages if one.startswith("Throughput")]
    assert lines[-1] == "Throughput: 1.2 samples/s, 0.3333 mini batches/s; data 33%, hooks 0%, device 67%"


def test_the_weights_of_the_loss_are_counted(tmp_path, clock):
    class SlowAndWeighed(slow_kind(clock), Weighed):
        pass

    recorder = Recorder()
    session_with(tmp_path, Throughput("2it"), GradientAccumulation(2), recorder, kind=SlowAndWeighed)()
    assert recorder.of("loss_weight_per_second") == pytest.approx({2: 80 / 6, 4: 80 / 6, 6: 10, 8: 80 / 6, 10: 10})
    assert recorder.of("samples_per_second") == pytest.approx({2: 8 / 6, 4: 8 / 6, 6: 1, 8: 8 / 6, 10: 1})


def test_it_observes_and_a_resumed_run_continues_exactly(tmp_path, clock):
    session = check_resumes_exactly(tmp_path, lambda: [Throughput("100it")])
    plain = session_with(tmp_path / "plain", dropout=0.3)
    plain()
    assert training_differences(session, plain) == []
    assert session._run.training.reading_observers == []


@pytest.mark.thorough
def test_it_passes_the_checks_of_a_hook():
    check_hook(partial(Throughput, "2it"), observes=True, processes=2)


def test_an_error_ends_the_observation():
    def fail(run, phase, batch):
        raise ZeroDivisionError

    run = Run(training=Phase("training", [1], is_training=True), max_epochs=1)
    with pytest.raises(ZeroDivisionError):
        Engine(fail, [Throughput()]).run(run)
    assert run.training.reading_observers == []


def test_an_iteration_without_values_counts():
    recorder = Recorder()
    run = Run(training=Phase("training", [1, 2, 3], is_training=True), max_epochs=2)
    Engine(lambda run, phase, batch: None, [Throughput("2it"), recorder]).run(run)
    assert list(recorder.of("samples_per_second")) == [2, 4, 6]


def rates_of_process(index, folder):
    recorder = Recorder()
    session = session_with(folder, Throughput("2it"), recorder, kind=Weighed, mini_batch_size=6)
    session()
    return recorder.logged


def test_several_processes_log_once_the_samples_of_all(tmp_path):
    main, other = several.values_of(2, rates_of_process, tmp_path)
    assert other == {}
    names = [*NAMES, "loss_weight_per_second"]
    rates = {step: {name: main[step, "iterations", name] for name in names} for step in (2, 4, 6)}
    for values in rates.values():
        assert values["loss_weight_per_second"] == pytest.approx(10 * values["samples_per_second"])
        assert values["samples_per_second"] == pytest.approx(6 * values["mini_batches_per_second"])


def test_an_invalid_interval_raises():
    with pytest.raises(IntervalError, match="An interval has to be"):
        Throughput("often")
