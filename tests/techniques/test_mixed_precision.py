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
from tiny import TinySession, read_scalars

from torchbase import hookimpl
from torchbase.errors import HookError, NonFiniteError
from torchbase.files.bitwise import different_values
from torchbase.hooks import GradientAccumulation, GradientClipping, LearningRateSchedule, MixedPrecision
from torchbase.metrics import RegressionMetrics


def autocast_loss_of(session, batch, kind):
    with torch.autocast("cpu", kind):
        return loss_of(session, batch)


class SmallLoss(PlainSession):
    """Doesn't overflow at the initial scale, unlike the plain session."""

    def loss_function(self, *, output, target):
        return 1e-2 * torch.nn.functional.mse_loss(output, target)


def test_bf16_equals_a_loop_by_hand(tmp_path):
    def step(session, batch):
        autocast_loss_of(session, batch, torch.bfloat16).backward()
        session.optimizer.step()
        session.optimizer.zero_grad()

    by_hand = train_by_hand(tmp_path, step)
    session = session_with(tmp_path, MixedPrecision("bf16"))
    session()
    assert training_differences(session, by_hand) == []
    full = session_with(tmp_path)
    full()
    assert training_differences(session, full) != []


def scaled_by_hand(tmp_path, kind, clip=None, accumulate=1, gamma=1.0):
    """The loop of PyTorch's examples; also returns the iterations with an optimizer step."""
    scaler, iterations, steps, schedulers = torch.amp.GradScaler("cpu"), [], [], []

    def step(session, batch):
        if not schedulers:
            schedulers.append(torch.optim.lr_scheduler.ExponentialLR(session.optimizer, gamma))
        iterations.append(batch)
        scaler.scale(autocast_loss_of(session, batch, torch.float16) / accumulate).backward()
        if len(iterations) % accumulate:
            return
        scaler.unscale_(session.optimizer)
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(session.network.parameters(), clip)
        before = scaler.get_scale()
        scaler.step(session.optimizer)
        scaler.update()
        session.optimizer.zero_grad()
        if scaler.get_scale() >= before:
            steps.append(len(iterations))
            schedulers[0].step()

    session = train_by_hand(tmp_path, step, kind=kind, epochs=3, mini_batch_size=3)  # 6 mini-batches per epoch
    return session, scaler, steps


@pytest.mark.parametrize("kind", [PlainSession, SmallLoss])
def test_fp16_equals_a_loop_by_hand(tmp_path, kind):
    by_hand, scaler, steps = scaled_by_hand(tmp_path, kind)
    session = session_with(tmp_path, hook := MixedPrecision("fp16"), kind=kind, num_epochs=3, mini_batch_size=3)
    session()
    assert training_differences(session, by_hand) == []
    assert hook.state_dict() == scaler.state_dict()
    assert (len(steps) < 18) == (kind is PlainSession)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2)])
def test_other_techniques_use_unscaled_gradients_in_any_order(tmp_path, order):
    by_hand, _, steps = scaled_by_hand(tmp_path, PlainSession, clip=0.5, accumulate=2, gamma=0.9)
    hooks = [
        MixedPrecision("fp16"),
        GradientClipping(norm=0.5),
        GradientAccumulation(2),
        LearningRateSchedule(lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9), every="1it"),
    ]
    session = session_with(
        tmp_path, *(hooks[number] for number in order), kind=PlainSession, num_epochs=3, mini_batch_size=3
    )
    session()
    assert training_differences(session, by_hand) == []
    assert 0 < len(steps) < 9
    logged = read_scalars(session.run_dir)
    assert [step for step, _ in logged["training/learning_rate/iterations"]] == steps
    assert [step for step, _ in logged["training/gradient_scale/iterations"]] == [2, 4, 6, 8, 10, 12, 14, 16, 18]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("kind", [TinySession, PlainSession])
def test_a_resumed_run_continues_exactly(tmp_path, precision, kind):
    check_resumes_exactly(tmp_path, lambda: [MixedPrecision(precision)], kind=kind, stops=(1, 3, 7))


def test_validation_evaluation_and_metrics_use_half_precision(tmp_path):
    types = set()

    class Measured(TinySession):
        def forward_pass(self, mini_batch):
            outputs = super().forward_pass(mini_batch)
            types.add((self.network.training, outputs["output"].dtype))
            return outputs

        def init_metrics(self):
            return [RegressionMetrics({"output": "predicted_values", "target": "target_values"})]

    names = list(RegressionMetrics().get_all_metric_functionals_dict())
    metrics = {"RegressionMetrics": names}
    session = session_with(tmp_path, MixedPrecision("bf16"), kind=Measured, metrics=metrics)
    summary = session()
    assert types == {(True, torch.bfloat16), (False, torch.bfloat16)}
    assert set(names) < set(summary.averages["validation-valid"])
    evaluated = session.evaluate(session.datasets_valid_dict["valid"], "valid")
    assert evaluated["loss"] == summary.averages["validation-valid"]["loss"]
    session.unregister("mixed_precision")
    assert session.evaluate(session.datasets_valid_dict["valid"], "valid")["loss"] != evaluated["loss"]


def test_gradients_that_are_not_finite_at_any_scale_raise(tmp_path):
    class Bad(PlainSession):
        def loss_function(self, *, output, target):
            return super().loss_function(output=output, target=target) + (0 * output.sum()).sqrt()

    session = session_with(tmp_path, MixedPrecision("fp16"), kind=Bad, num_epochs=20)
    before = {name: value.clone() for name, value in session.network.state_dict().items()}
    with pytest.raises(NonFiniteError, match="NaN or infinite even with a scale of"):
        session()
    assert different_values(before, session.network.state_dict()) == []


@pytest.mark.parametrize("policy", ["skip", "stop"])
def test_fp16_with_another_nan_policy_raises(tmp_path, policy):
    with pytest.raises(HookError, match=r"nan_policy other than 'raise'.*To fix"):
        session_with(tmp_path, MixedPrecision("fp16"), nan_policy=policy)()
    session_with(tmp_path, MixedPrecision("bf16"), nan_policy=policy)()


def test_another_hook_can_prevent_a_step(tmp_path):
    class Never:
        @hookimpl
        def should_step_optimizer(self):
            return False

    session = session_with(tmp_path, MixedPrecision("fp16"), Never(), kind=PlainSession)
    before = {name: value.clone() for name, value in session.network.state_dict().items()}
    session()
    assert different_values(before, session.network.state_dict()) == []


def test_an_unknown_precision_raises():
    with pytest.raises(HookError, match="expects 'bf16' or 'fp16', but got 'float32'"):
        MixedPrecision("float32")
