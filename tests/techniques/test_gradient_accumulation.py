import pytest
import torch
from every_technique import (
    PlainSession,
    check_resumes_exactly,
    loss_of,
    session_with,
    train_by_hand,
    training_differences,
)

from torchbase import Engine, Phase, Run, hookimpl
from torchbase.engine.training_step import TrainingStep
from torchbase.errors import HookError
from torchbase.hooks import GradientAccumulation, NanSkip


@pytest.mark.parametrize("mini_batches", [1, 2, 3, 4, 5, 9])
def test_training_equals_training_with_large_mini_batches(tmp_path, mini_batches):
    large = session_with(tmp_path, kind=PlainSession, mini_batch_size=4 * mini_batches)
    large()
    session = session_with(tmp_path, GradientAccumulation(mini_batches), kind=PlainSession)
    session()
    assert session._run.progress.iterations == 10
    for name, weight in large.network.state_dict().items():
        torch.testing.assert_close(session.network.state_dict()[name], weight, rtol=0, atol=1e-6)


def test_training_equals_a_loop_by_hand(tmp_path):
    losses = []

    def step(session, batch):
        losses.append(batch)
        number = (len(losses) - 1) % 5  # two mini-batches of 4 samples per step; the last, of 2, is a step of its own
        share = 1 if number == 4 else 1 / 2
        (loss_of(session, batch) * share).backward()
        if number in (1, 3, 4):
            session.optimizer.step()
            session.optimizer.zero_grad()

    by_hand = train_by_hand(tmp_path, step)
    session = session_with(tmp_path, GradientAccumulation(2))
    session()
    assert training_differences(session, by_hand) == []


@pytest.mark.parametrize("mini_batches", [2, 4])
def test_a_run_resumed_between_two_steps_continues_exactly(tmp_path, mini_batches):
    check_resumes_exactly(tmp_path, lambda: [GradientAccumulation(mini_batches)], stops=(1, 6, 8))


class RecordGradients:
    """Records the gradients of each optimizer step."""

    def __init__(self):
        self.gradients = []

    @hookimpl(wrapper=True, trylast=True)
    def run_optimizer_step(self, run):
        self.gradients.append(run.network.weight.grad.clone())
        return (yield)


def loss_of_outputs(*, output):
    squares = output.square()
    return squares.mean() + 0 * squares.sum().sqrt()  # if all outputs are 0, the loss is finite and the gradient NaN


def train_on(loader, *hooks, epochs=1):
    network = torch.nn.Linear(2, 1, bias=False)
    step = TrainingStep(
        lambda batch: {"output": network(batch)},
        loss_of_outputs,
        lambda *, loss_tensor: loss_tensor,
        len,
    )
    run = Run(
        training=Phase("training", loader, is_training=True),
        max_epochs=epochs,
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.0),
    )
    record = RecordGradients()
    Engine(defaults=[step], hooks=[*hooks, record]).run(run)
    return network, record.gradients


def gradient_of(network, batch):
    (gradient,) = torch.autograd.grad(network(batch).square().mean(), network.weight)
    return gradient


def test_each_mini_batch_is_weighted_by_its_samples():
    batches = [torch.randn(size, 2) for size in (1, 5, 3, 4, 2)]
    network, gradients = train_on(batches, GradientAccumulation(3))
    expected = [gradient_of(network, torch.cat(group)) for group in (batches[:3], batches[3:])]
    torch.testing.assert_close(gradients, expected, rtol=0, atol=1e-6)


class WithoutLength:
    """A loader without a length."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


def test_without_a_known_length_remaining_mini_batches_count_in_the_next_epoch():
    batches = [torch.randn(size, 2) for size in (2, 3, 4)]
    network, gradients = train_on(WithoutLength(batches), GradientAccumulation(2), epochs=2)
    a, b, c = batches
    expected = [gradient_of(network, torch.cat(group)) for group in ([a, b], [c, a], [b, c])]
    torch.testing.assert_close(gradients, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("bad", [0, 1, 2])
@pytest.mark.parametrize("value", [float("nan"), 0.0], ids=["bad loss", "bad gradient"])
def test_a_skipped_mini_batch_is_not_counted(bad, value):
    good = [torch.randn(size, 2) for size in (2, 3, 4, 2)]
    batches = list(good)
    batches.insert(bad, torch.full((5, 2), value))
    network, gradients = train_on(batches, NanSkip(), GradientAccumulation(2))
    expected = [gradient_of(network, torch.cat(group)) for group in (good[:2], good[2:])]
    torch.testing.assert_close(gradients, expected, rtol=0, atol=1e-6)


def test_a_hook_that_always_steps_does_not_override_accumulation():
    class Always:
        @hookimpl
        def should_step_optimizer(self):
            return True

    _, gradients = train_on([torch.randn(2, 2) for _ in range(6)], Always(), GradientAccumulation(3))
    assert len(gradients) == 2


@pytest.mark.parametrize("mini_batches", [0, -1, 1.5, True, "2"])
def test_an_invalid_number_of_mini_batches_raises(mini_batches):
    with pytest.raises(HookError, match="at least 1, but got"):
        GradientAccumulation(mini_batches)
