import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchbase import Engine, Phase, Run
from torchbase.hooks import MetricAverages


def averages_of(values, samples, hook=None):
    def step(run, phase, batch):
        value, phase.samples = batch
        run.log("loss", torch.tensor(value, dtype=torch.float64))

    loader = list(zip(values, samples, strict=True))
    run = Run(training=Phase("training", loader, is_training=True), max_epochs=1)
    Engine(step, hooks=[hook or MetricAverages()]).run(run)
    return run.training.averages


def test_averages_are_weighted_by_samples():
    assert averages_of([1.0, 4.0], [3, 1]) == {"loss": 1.75}


@settings(max_examples=30)
@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.integers(1, 1000)), min_size=1, max_size=200))
def test_averages_equal_the_weighted_mean_in_double_precision(batches):
    values, samples = zip(*batches, strict=True)
    expected = sum(value * count for value, count in batches) / sum(samples)
    assert averages_of(values, samples)["loss"] == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_ten_thousand_float_losses_average_to_six_digits():
    generator = torch.Generator().manual_seed(0)
    losses = torch.rand(10_000, generator=generator)
    samples = [32] * 9_999 + [5]

    def step(run, phase, batch):
        value, phase.samples = batch
        run.log("loss", value)

    run = Run(training=Phase("training", list(zip(losses, samples, strict=True)), is_training=True), max_epochs=1)
    Engine(step, hooks=[MetricAverages()]).run(run)
    expected = (losses.double() * torch.tensor(samples)).sum() / sum(samples)
    assert run.training.averages["loss"] == pytest.approx(expected.item(), abs=1e-6)


def test_a_value_that_only_some_iterations_log_is_averaged_over_those():
    def step(run, phase, batch):
        if batch % 2:
            run.log("odd", float(batch))

    run = Run(training=Phase("training", range(6), is_training=True), max_epochs=2)
    Engine(step, hooks=[MetricAverages()]).run(run)
    assert run.training.averages == {"odd": 3.0}


def test_the_sums_of_an_interrupted_epoch_are_restored_from_a_state():
    values = [1.0, 2.0, 6.0]

    def step(run, phase, batch):
        run.log("loss", values[batch])
        if stop and batch == 1:
            run.request_stop("for the test")

    stop = True
    first = MetricAverages()
    stopped = Run(training=Phase("training", range(3), is_training=True), max_epochs=1)
    Engine(step, hooks=[first]).run(stopped)
    stop = False
    second = MetricAverages()
    second.load_state_dict(first.state_dict())
    resumed = Run(
        training=Phase("training", range(3), is_training=True, progress=stopped.progress), max_epochs=1, epoch=1
    )
    Engine(step, hooks=[second]).run(resumed)
    assert resumed.training.averages == {"loss": 3.0}
