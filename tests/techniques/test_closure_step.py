import pytest
import several
import torch
from adversaries import AdversarialSession
from divided import in_suite
from every_technique import check_resumes_exactly, session_with, train_by_hand, training_differences
from repeated import EvaluationsByHand
from tiny import TinySession, read_scalars

from torchbase import hookimpl
from torchbase.errors import HookError
from torchbase.files.bitwise import different_values
from torchbase.hooks import (
    ClosureStep,
    ExponentialMovingAverage,
    GradientAccumulation,
    GradientClipping,
    LearningRateSchedule,
    MixedPrecision,
    RetryOnOutOfMemory,
)


class LbfgsSession(TinySession):
    def init_optimizer(self):
        return torch.optim.LBFGS(self.network.parameters(), lr=0.1, max_iter=4, history_size=3)


class WolfeSession(LbfgsSession):
    def init_optimizer(self):
        return torch.optim.LBFGS(self.network.parameters(), max_iter=3, line_search_fn="strong_wolfe")


class Twice(torch.optim.SGD):
    """An optimizer of the user that moves the weights before it calls the closure."""

    @torch.no_grad()
    def step(self, closure):
        for parameter in self.param_groups[0]["params"]:
            parameter.data.mul_(1.01)
        with torch.enable_grad():
            closure()
        return super().step()


class TwiceSession(LbfgsSession):
    def init_optimizer(self):
        return Twice(self.network.parameters(), lr=0.05)


@pytest.mark.parametrize("kind", in_suite([LbfgsSession, WolfeSession, TwiceSession], WolfeSession, TwiceSession))
def test_training_equals_a_loop_by_hand(tmp_path, kind):
    losses = []

    def step(session, batch):
        evaluations = EvaluationsByHand(session, batch, len(losses))
        losses.append(evaluations.first_loss.item())
        session.optimizer.step(evaluations.again)
        evaluations.end()

    by_hand = train_by_hand(tmp_path / "hand", step, kind=kind, dropout=0.3)
    session = session_with(tmp_path / "hook", ClosureStep(), kind=kind, dropout=0.3)
    session()
    assert training_differences(session, by_hand) == []
    # Each iteration logs once: the loss at the weights from before the step.
    assert [value for _, value in read_scalars(session.run_dir)["training/loss/iterations"]] == losses


def make_hooks():
    schedule = LearningRateSchedule(lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9), "1it")
    return [ClosureStep(), ExponentialMovingAverage(0.8), MixedPrecision("bf16"), schedule]


@pytest.mark.parametrize("parts", in_suite([None, 2], 2))
def test_a_resumed_run_continues_exactly(tmp_path, parts):
    check_resumes_exactly(tmp_path, make_hooks, kind=LbfgsSession, mini_batch_parts=parts, mini_batch_size=6,
                          stops=(2, 4))  # fmt: skip


class Calls:
    def __init__(self):
        self.fired = dict.fromkeys(("forward", "gradients", "step", "end"), 0)

    @hookimpl(wrapper=True)
    def run_forward(self, phase):
        self.fired["forward"] += phase.is_training
        return (yield)

    @hookimpl
    def on_gradients_ready(self):
        self.fired["gradients"] += 1

    @hookimpl(wrapper=True)
    def run_optimizer_step(self):
        self.fired["step"] += 1
        return (yield)

    @hookimpl
    def on_iteration_end(self, phase):
        self.fired["end"] += phase.is_training


def test_an_iteration_counts_once(tmp_path):
    calls = Calls()
    session = session_with(tmp_path, ClosureStep(), calls, kind=LbfgsSession, num_epochs=1)
    session.unregister("rehearsal")
    session()
    evaluations = session.optimizer.state[next(session.network.parameters())]["func_evals"]
    assert evaluations > 5
    assert calls.fired == {"forward": 5 + evaluations, "gradients": 5, "step": 5, "end": 5}


def test_one_of_several_optimizers_takes_a_closure(tmp_path):
    class Mixed(AdversarialSession):
        def init_optimizer(self):
            parameters = self.network.generator.parameters()
            return super().init_optimizer() | {"generator": torch.optim.LBFGS(parameters, lr=0.1, max_iter=3)}

    check_resumes_exactly(tmp_path, lambda: [ClosureStep()], kind=Mixed, stops=(3,))


def train(index, parent):
    session = session_with(
        parent, ClosureStep(), kind=WolfeSession, dropout=0.3, mini_batch_size=8, mini_batch_parts=4, drop_last=True
    )
    session()
    return session.network.state_dict(), session.optimizer.state_dict(), session._run.training.averages


@pytest.mark.parametrize("count", in_suite([2, 3], 2))
def test_several_processes_train_as_one(tmp_path, count):
    expected = train(0, tmp_path / "1")
    for state in several.values_of(count, train, tmp_path / str(count)):
        assert different_values(state, expected) == []


class Decides:
    @hookimpl
    def should_step_optimizer(self):
        return True


class Iterates:
    @hookimpl
    def run_iteration(self, run, phase, batch):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("hook", "settings", "message"),
    [
        (GradientClipping(norm=1.0), {}, "the hook 'gradient_clipping': each evaluation of the closure"),
        (GradientAccumulation(2), {}, "'gradient_accumulation', which implements should_step_optimizer"),
        (MixedPrecision("fp16"), {}, "'mixed_precision', which implements should_step_optimizer"),
        (Decides(), {}, "'decides', which implements should_step_optimizer"),
        (RetryOnOutOfMemory(), {}, "the hook 'retry_on_out_of_memory'"),
        (Calls(), {"nan_policy": "skip"}, "the hook 'nan_skip': .* To fix, set session.nan_policy to 'raise'"),
        (Iterates(), {}, r"'iterates', which implements run_iteration, can't.*compute_gradients\(run, phase, batch\)"),
    ],
)
def test_what_would_change_the_first_gradients_alone_is_refused(tmp_path, hook, settings, message):
    with pytest.raises(HookError, match=message):
        session_with(tmp_path, ClosureStep(), hook, kind=LbfgsSession, **settings)()


def sharded(index, parent):
    with pytest.raises(HookError, match="ClosureStep can't be used with the hook 'sharded_training'"):
        session_with(parent, ClosureStep(), distributed="shard", mini_batch_parts=2)()
    return "refused"


def test_a_sharded_network_is_refused(tmp_path):
    if (reason := several.reason_against_sharding()) is not None:
        pytest.skip(reason)
    several.import_sharding()
    assert several.values_of(2, sharded, tmp_path) == ["refused"] * 2
