import gc
import logging
import weakref
from itertools import islice

import pytest
import torch
from every_technique import (
    PlainNetwork,
    PlainSession,
    check_resumes_exactly,
    loss_of,
    session_with,
    train_by_hand,
    training_differences,
)
from tiny import StopAt, TinyNetwork, TinySession, read_scalars

from torchbase import BaseMetricsClass, Engine, Phase, Run, hookimpl
from torchbase.engine.training_step import TrainingStep
from torchbase.errors import HookError
from torchbase.hooks import GradientAccumulation, GradientClipping, MixedPrecision, NanSkip, RetryOnOutOfMemory


class Limited:
    """A network that runs out of memory, after drawing random numbers, above a number of samples."""

    fits = 1
    tried = ()

    def forward(self, x):
        type(self).tried = (*self.tried, len(x))
        if len(x) > self.fits:
            torch.rand(3)
            raise torch.OutOfMemoryError(f"{len(x)} samples")
        return super().forward(x)


class LimitedNetwork(Limited, PlainNetwork):
    """Samples don't depend on each other."""


class LimitedTinyNetwork(Limited, TinyNetwork):
    """Has batch normalization and dropout."""


class LimitedSession(PlainSession):
    architecture = "LimitedNetwork"

    def init_network(self):
        LimitedNetwork.tried = ()
        return LimitedNetwork()


class Logs:
    """Logs a mean over samples in each forward pass."""

    def forward_pass(self, mini_batch):
        outputs = super().forward_pass(mini_batch)
        self.log("mean_output", outputs["output"].mean())
        return outputs


class LoggingSession(Logs, PlainSession):
    pass


class LoggingLimitedSession(Logs, LimitedSession):
    pass


def limited(parent, fits, *hooks, kind=LimitedSession, **session):
    LimitedNetwork.fits = fits
    return session_with(parent, RetryOnOutOfMemory(), *hooks, kind=kind, **session)


def check_is_close(session, other):
    for name, weight in other.network.state_dict().items():
        torch.testing.assert_close(session.network.state_dict()[name], weight, rtol=0, atol=1e-6)


@pytest.mark.parametrize("fits", [1, 2, 3, 5, 9])
def test_weights_and_values_equal_those_of_whole_mini_batches(tmp_path, fits):
    whole = session_with(tmp_path, kind=LoggingSession, mini_batch_size=8)
    whole_summary = whole()
    session = limited(tmp_path, fits, kind=LoggingLimitedSession, mini_batch_size=8)
    summary = session()
    check_is_close(session, whole)
    assert session._run.progress.iterations == whole._run.progress.iterations == 2 * 3
    for phase, averages in whole_summary.averages.items():
        assert summary.averages[phase] == pytest.approx(averages, rel=1e-5)
    expected, scalars = read_scalars(whole.run_dir), read_scalars(session.run_dir)
    assert scalars.keys() == expected.keys()
    for tag, curve in expected.items():
        assert [value for _, value in scalars[tag]] == pytest.approx([value for _, value in curve], rel=1e-5)


def test_mini_batches_are_halved_until_they_fit(tmp_path):
    session = limited(tmp_path, 3, mini_batch_size=8, num_epochs=1)
    session.unregister("rehearsal")
    session()
    # Training has mini-batches of 8, 8 and 2 samples, the validation sets of 8 and 2, and of 6.
    halved = [8, 4, 2, 2, 2, 2]
    assert list(LimitedNetwork.tried) == [*halved, *halved, 2, *halved, 2, 6, 3, 3]


def test_training_equals_a_loop_by_hand_over_halves(tmp_path):
    def step(session, batch):
        size = len(batch["y"])
        for rows in [slice(0, 4), slice(4, 8)] if size == 8 else [slice(0, size)]:
            half = {"x": batch["x"][rows], "y": batch["y"][rows]}
            (loss_of(session, half) * (len(half["y"]) / size)).backward()
        session.optimizer.step()
        session.optimizer.zero_grad()

    by_hand = train_by_hand(tmp_path, step, kind=PlainSession, mini_batch_size=8)
    session = limited(tmp_path, 4, mini_batch_size=8)
    session()
    assert training_differences(session, by_hand) == []


@pytest.mark.parametrize(
    "make_others",
    [
        lambda: [GradientAccumulation(3)],
        lambda: [GradientClipping(norm=0.1)],
        lambda: [NanSkip()],
        lambda: [MixedPrecision("bf16")],
        lambda: [GradientAccumulation(2), GradientClipping(value=0.01), MixedPrecision("fp16")],
    ],
    ids=["accumulation", "clipping", "nan skip", "bf16", "three"],
)
def test_with_other_hooks_training_equals_whole_mini_batches(tmp_path, make_others):
    whole = session_with(tmp_path, *make_others(), kind=PlainSession, mini_batch_size=8, num_epochs=3)
    whole()
    session = limited(tmp_path, 4, *make_others(), mini_batch_size=8, num_epochs=3)
    session()
    # In half precision the mean over halves is rounded differently.
    tolerance = 1e-2 if "mixed_precision" in session.hooks else 1e-6
    for name, weight in whole.network.state_dict().items():
        torch.testing.assert_close(session.network.state_dict()[name], weight, rtol=0, atol=tolerance)


class BackwardFails:
    """Runs out of memory after the first backward pass of each iteration."""

    def __init__(self):
        self.iteration = None

    @hookimpl(wrapper=True)
    def run_backward(self, run, loss):
        yield
        if run.progress.iterations != self.iteration:
            self.iteration = run.progress.iterations
            raise torch.OutOfMemoryError


@pytest.mark.parametrize("accumulate", [1, 3])
def test_gradients_and_streams_are_restored_before_a_retry(tmp_path, accumulate):
    def train(*hooks):
        session = session_with(tmp_path, *hooks, GradientAccumulation(accumulate), kind=PlainSession, mini_batch_size=8)
        session()
        return session

    check_is_close(train(RetryOnOutOfMemory(), BackwardFails()), train())


def test_buffers_and_random_streams_are_restored_before_a_retry(tmp_path):
    class Session(TinySession):
        architecture = "LimitedTinyNetwork"

        def init_network(self):
            return LimitedTinyNetwork(self.config_network["dropout"])

    LimitedTinyNetwork.fits = 2
    session = session_with(tmp_path, RetryOnOutOfMemory(), StopAt(4), kind=Session, dropout=0.3)
    session()
    by_hand = session_with(tmp_path, dropout=0.3)
    seeds = by_hand._randomness.series("iteration", "training")
    assert by_hand.optimizer.state == {}
    by_hand.network.train()
    for number, batch in enumerate(islice(by_hand.dataloader_train.mini_batches(1), 4)):
        torch.manual_seed(seeds.at(number))
        for rows in (slice(0, 2), slice(2, 4)):
            half = {"x": batch["x"][rows], "y": batch["y"][rows]}
            (loss_of(by_hand, half) / 2).backward()
        by_hand.optimizer.step()
        by_hand.optimizer.zero_grad()
    assert training_differences(session, by_hand) == []


def test_metrics_are_computed_over_the_whole_mini_batch(tmp_path):
    class Sized(BaseMetricsClass):
        def size(self, *, output):
            return float(len(output))

    class Measured(LimitedSession):
        def init_metrics(self):
            return [Sized()]

    LimitedNetwork.fits = 3
    metrics = {"Sized": ["size"]}
    session = session_with(tmp_path, RetryOnOutOfMemory(), kind=Measured, metrics=metrics, mini_batch_size=8)
    summary = session()
    assert {phase: averages["size"] for phase, averages in summary.averages.items()} == {
        "training": 8.0,  # of the first mini-batch; only every tenth is measured
        "validation-valid": 10.0,
        "validation-demo": 6.0,
    }
    assert session.evaluate(session.datasets_valid_dict["valid"])["size"] == 10.0


def test_a_resumed_run_continues_exactly(tmp_path):
    LimitedNetwork.fits = 2
    check_resumes_exactly(tmp_path, lambda: [RetryOnOutOfMemory(), GradientAccumulation(2)], kind=LimitedSession)


def test_without_a_retry_the_hook_changes_nothing(tmp_path):
    plain, session = session_with(tmp_path, dropout=0.3), session_with(tmp_path, RetryOnOutOfMemory(), dropout=0.3)
    plain()
    session()
    assert training_differences(session, plain) == []


def test_memory_is_freed_before_a_retry():
    alive = []

    class Fills:
        @hookimpl
        def run_forward(self, run, phase, batch):
            gc.disable()
            large = torch.zeros(len(batch))
            alive.append([reference() is not None for reference in references])
            references.append(weakref.ref(large))
            if len(batch) > 1:
                raise torch.OutOfMemoryError
            phase.samples = len(batch)
            gc.enable()
            return run.network(batch).mean()

    references = []
    network = torch.nn.Linear(1, 1)
    run = Run(
        training=Phase("training", [torch.zeros(4, 1)], is_training=True),
        max_epochs=1,
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
    )
    step = TrainingStep(lambda batch: {}, lambda: None, lambda loss_tensor: 0.0, len)
    Engine(defaults=[step], hooks=[Fills(), RetryOnOutOfMemory()]).run(run)
    assert alive[0] == []
    assert not any(alive[1])
    assert not any(alive[2])


def test_a_single_sample_that_does_not_fit_raises(tmp_path):
    session = limited(tmp_path, 0)
    with pytest.raises(torch.OutOfMemoryError, match=r"4 samples of training doesn't fit .* even one sample at a time"):
        session()


def test_without_memory_for_the_optimizer_step_the_error_is_raised(tmp_path):
    class StepFails:
        @hookimpl(wrapper=True)
        def run_optimizer_step(self):
            yield
            raise torch.OutOfMemoryError("for the optimizer")

    session = session_with(tmp_path, RetryOnOutOfMemory(), StepFails())
    with pytest.raises(torch.OutOfMemoryError, match="for the optimizer") as caught:
        session()
    assert "smaller mini-batches don't help" in " ".join(caught.value.__notes__)


def test_a_retry_is_logged(tmp_path, caplog):
    session = limited(tmp_path, 2, num_epochs=1)
    with caplog.at_level(logging.INFO, "torchbase"):
        session()
    assert "4 samples of training don't fit into memory; computed in 2 parts." in caplog.text


def test_iterations_of_another_hook_raise():
    run = Run(training=Phase("training", [1], is_training=True), max_epochs=1)
    with pytest.raises(
        HookError, match=r"that training_step runs, but in this run 'run_iteration' implements run_iteration"
    ):
        Engine(lambda run, phase, batch: None, hooks=[RetryOnOutOfMemory()]).run(run)
