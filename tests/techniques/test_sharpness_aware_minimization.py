import pytest
import several
import torch
from divided import in_suite
from every_technique import check_resumes_exactly, session_with, train_by_hand, training_differences
from repeated import EvaluationsByHand
from tiny import TinySession, read_scalars
from torch.nn.utils import clip_grad_norm_, get_total_norm

from torchbase import hookimpl
from torchbase.errors import HookError
from torchbase.files.bitwise import different_values
from torchbase.hooks import (
    ClosureStep,
    ExponentialMovingAverage,
    GradientAccumulation,
    GradientClipping,
    MixedPrecision,
    RetryOnOutOfMemory,
    SharpnessAwareMinimization,
)


class ByHand:
    """Iterations as in the paper; the gradients of `accumulated` mini-batches are averaged for a step."""

    def __init__(self, rho, accumulated=1):
        self.rho, self.accumulated = rho, accumulated
        self.losses, self.norms, self.sums = [], [], None

    def __call__(self, session, batch):
        number, parameters = len(self.losses), list(session.network.parameters())
        evaluations = EvaluationsByHand(session, batch, number)
        self.losses.append(evaluations.first_loss.item())
        before = [one.detach().clone() for one in parameters]
        with torch.no_grad():
            factor = self.rho / (get_total_norm([one.grad for one in parameters]) + 1e-12)
            for parameter in parameters:
                parameter.add_(parameter.grad * factor)
        evaluations.again()
        with torch.no_grad():
            for parameter, weights in zip(parameters, before, strict=True):
                parameter.copy_(weights)
        is_last_of_epoch = number % 5 == 4
        share = 1 if is_last_of_epoch else 1 / self.accumulated
        gradients = [one.grad * share for one in parameters]
        sums = gradients if self.sums is None else [a + b for a, b in zip(self.sums, gradients, strict=True)]
        evaluations.end()
        if is_last_of_epoch or (number % 5 + 1) % self.accumulated == 0:
            for parameter, gradient in zip(parameters, sums, strict=True):
                parameter.grad = gradient
            self.norms.append(clip_grad_norm_(parameters, 0.5).item())
            session.optimizer.step()
            session.optimizer.zero_grad()
            sums = None
        self.sums = sums


@pytest.mark.parametrize("accumulated", in_suite([1, 2], 1, 2))
def test_training_equals_a_loop_by_hand(tmp_path, accumulated):
    by_hand = ByHand(0.1, accumulated)
    expected = train_by_hand(tmp_path / "hand", by_hand, dropout=0.3)
    hooks = [GradientClipping(norm=0.5), GradientAccumulation(accumulated), SharpnessAwareMinimization(0.1)]
    session = session_with(tmp_path / "hook", *hooks, dropout=0.3)
    session()
    assert training_differences(session, expected) == []
    scalars = read_scalars(session.run_dir)
    assert [value for _, value in scalars["training/loss/iterations"]] == by_hand.losses
    assert [value for _, value in scalars["training/gradient_norm/iterations"]] == pytest.approx(by_hand.norms)


def test_it_finds_flatter_weights(tmp_path):
    """The loss has a sharp minimum at 0, and a flat one at 3 to which the weights from 0.72 on belong."""

    class Point(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor(0.02))

    class PointSession(TinySession):
        architecture = "Point"

        def init_network(self):
            return Point()

        def init_optimizer(self):
            return torch.optim.SGD(self.network.parameters(), 0.1)

        def forward_pass(self, mini_batch):
            weight = self.network.weight
            return {"loss": torch.minimum(5 * weight.square(), 0.5 * (weight - 3).square())}

        def loss_function(self, *, loss):
            return loss

    plain = session_with(tmp_path / "plain", kind=PointSession, num_epochs=4)
    flat = session_with(tmp_path / "flat", SharpnessAwareMinimization(1.0), kind=PointSession, num_epochs=4)
    plain()
    flat()
    assert plain.network.weight.item() == pytest.approx(0, abs=0.01)
    assert flat.network.weight.item() > 0.9


HOOKS = {
    "alone": list,
    "fp16": lambda: [MixedPrecision("fp16")],
    "techniques": lambda: [GradientAccumulation(2), GradientClipping(value=0.1), ExponentialMovingAverage(0.8)],
}


@pytest.mark.parametrize(
    ("name", "parts"), in_suite([(name, parts) for name in HOOKS for parts in (None, 2)], ("techniques", 2))
)
def test_a_resumed_run_continues_exactly(tmp_path, name, parts):
    settings = {"mini_batch_parts": parts, "mini_batch_size": 6, "stops": (1, 4)}
    check_resumes_exactly(tmp_path, lambda: [SharpnessAwareMinimization(), *HOOKS[name]()], **settings)


class NanAbove(TinySession):
    """The loss isn't finite at the weights that have moved, in the third iteration."""

    evaluations = 0

    def loss_function(self, *, output, target):
        loss = super().loss_function(output=output, target=target)
        if self._run.current_phase.is_training and self._run.progress.iterations == 2:
            self.evaluations += 1
            return loss * (float("nan") if self.evaluations == 2 else 1.0)
        return loss


def test_a_mini_batch_whose_second_loss_is_not_finite_leaves_no_trace(tmp_path):
    weights = []

    class Notes:
        name = "notes"

        @hookimpl
        def on_iteration_end(self, run, phase):
            if phase.is_training:
                weights.append([one.detach().clone() for one in run.network.state_dict().values()])

    session_with(tmp_path, Notes(), SharpnessAwareMinimization(), kind=NanAbove, nan_policy="skip", num_epochs=1)()
    assert different_values(weights[2], weights[1]) == []
    assert different_values(weights[3], weights[2]) != []


def train(index, parent):
    session = session_with(
        parent,
        SharpnessAwareMinimization(),
        GradientClipping(norm=0.5),
        dropout=0.3,
        mini_batch_size=8,
        mini_batch_parts=4,
        drop_last=True,
    )
    session()
    return session.network.state_dict(), session.optimizer.state_dict(), session._run.training.averages


@pytest.mark.parametrize("count", in_suite([2, 3], 2))
def test_several_processes_train_as_one(tmp_path, count):
    expected = train(0, tmp_path / "1")
    for state in several.values_of(count, train, tmp_path / str(count)):
        assert different_values(state, expected) == []


@pytest.mark.parametrize("rho", [0, -0.1, "0.1", True, None, float("nan")])
def test_rho_is_checked(rho):
    with pytest.raises(HookError, match="SharpnessAwareMinimization expects rho, a number above 0, but got"):
        SharpnessAwareMinimization(rho)


@pytest.mark.parametrize("other", [ClosureStep, RetryOnOutOfMemory])
def test_what_can_not_be_computed_twice_is_refused(tmp_path, other):
    with pytest.raises(HookError, match=r"SharpnessAwareMinimization can't be used with the hook '(closure|retry)_"):
        session_with(tmp_path, SharpnessAwareMinimization(), other())()


def sharded(index, parent):
    with pytest.raises(HookError, match="SharpnessAwareMinimization can't be used with the hook 'sharded_training'"):
        session_with(parent, SharpnessAwareMinimization(), distributed="shard", mini_batch_parts=2)()
    return "refused"


def test_a_sharded_network_is_refused(tmp_path):
    if (reason := several.reason_against_sharding()) is not None:
        pytest.skip(reason)
    several.import_sharding()
    assert several.values_of(2, sharded, tmp_path) == ["refused"] * 2
