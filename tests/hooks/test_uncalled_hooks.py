import logging
import re

import pytest
import torch
from every_technique import session_with
from tiny import StopAt, TinySession

from torchbase import Engine, Phase, Run, hookimpl
from torchbase.hooks import (
    EarlyStopping,
    ExponentialMovingAverage,
    GradientAccumulation,
    GradientClipping,
    LearningRateSchedule,
    LogGradients,
    MixedPrecision,
    UncalledHooks,
)
from torchbase.hooks.uncalled_hooks import EVENTS_OF_A_TRAINING_ITERATION


def warnings_of(caplog):
    return [one.message for one in caplog.records if "events have not fired" in one.message]


def waiting_for(event):
    """A hook that implements an event, as a wrapper where one hook does the work."""

    def observe(self):
        pass

    def wrap(self):
        return (yield)

    method = hookimpl(wrapper=True)(wrap) if event.startswith("run_") else hookimpl(observe)
    return type("Waits", (), {event: method})()


class StepsByItself:
    @hookimpl
    def run_iteration(self, run, phase, batch):
        output = run.network(batch["x"])
        loss = torch.nn.functional.mse_loss(output, batch["y"])
        phase.outputs, phase.loss, phase.samples = {"output": output}, loss.detach(), len(output)
        phase.values["loss"] = phase.loss
        if phase.is_training:
            loss.backward()
            run.optimizer.step()
            run.optimizer.zero_grad()


class FiresTheStep(StepsByItself):
    @hookimpl
    def run_iteration(self, run, phase, batch):
        loss = run.call.run_forward(run=run, phase=phase, batch=batch)
        if phase.is_training:
            loss.backward()
            run.call.run_optimizer_step(run=run)


class RunsPhases:
    @hookimpl
    def run_phase(self, run, phase):
        phase.progress.is_done, phase.averages = True, {"loss": 1.0}


def schedule(every):
    return LearningRateSchedule(torch.optim.lr_scheduler.ConstantLR, every)


@pytest.mark.parametrize(
    ("make", "events"),
    [
        (lambda: ExponentialMovingAverage(0.9), ["run_optimizer_step"]),
        (lambda: GradientClipping(1.0), ["run_optimizer_step"]),
        (lambda: LogGradients("1it"), ["run_optimizer_step"]),
        (lambda: schedule("1it"), ["run_optimizer_step"]),
        (lambda: GradientAccumulation(2), ["run_backward", "should_step_optimizer"]),
        (lambda: MixedPrecision("bf16"), ["run_forward"]),
        (lambda: MixedPrecision("fp16"), ["run_forward", "run_backward", "should_step_optimizer"]),
        (lambda: schedule("1ep"), []),
        (lambda: EarlyStopping(), []),
    ],
)
def test_hooks_that_a_step_of_another_hook_never_calls_are_named_once(tmp_path, caplog, make, events):
    session = session_with(tmp_path, StepsByItself())
    name = session.register(make())
    with caplog.at_level(logging.WARNING, "torchbase"):
        session()
    if not events:
        assert warnings_of(caplog) == []
        return
    (warning,) = warnings_of(caplog)
    waiting = "; ".join(f"{event} ('{name}')" for event in events)
    assert f"After 5 training iterations these events have not fired, and hooks wait for them: {waiting}." in warning
    assert (
        f"'steps_by_itself' implements run_iteration. To fix, fire the events there, such as run.call.{events[-1]}("
        in (warning)
    )


def test_mini_batch_parts_are_not_the_cause(tmp_path, caplog):
    class NeverSteps:
        @hookimpl
        def should_step_optimizer(self):
            return False

    session = session_with(tmp_path, NeverSteps(), GradientClipping(1.0), mini_batch_parts=1)
    with caplog.at_level(logging.WARNING, "torchbase"):
        session()
    (warning,) = warnings_of(caplog)
    assert "run_optimizer_step ('gradient_clipping'). Another hook prevents them" in warning


@pytest.mark.parametrize("event", EVENTS_OF_A_TRAINING_ITERATION)
@pytest.mark.parametrize("kind", [StepsByItself, FiresTheStep, RunsPhases])
def test_an_event_is_named_exactly_if_it_never_fired(tmp_path, caplog, event, kind):
    fired = {
        StepsByItself: {"on_iteration_start", "run_iteration", "on_iteration_end"},
        FiresTheStep: {"on_iteration_start", "run_iteration", "run_forward", "run_optimizer_step", "on_iteration_end"},
        RunsPhases: set(),
    }[kind]
    session = session_with(tmp_path, kind(), waiting_for(event))
    with caplog.at_level(logging.WARNING, "torchbase"):
        session()
    if event in fired:
        assert warnings_of(caplog) == []
    else:
        (warning,) = warnings_of(caplog)
        assert re.search(rf"{event} \([^)]*'waits'", warning)


@pytest.mark.parametrize("event", EVENTS_OF_A_TRAINING_ITERATION)
def test_the_training_step_calls_all(tmp_path, caplog, event):
    with caplog.at_level(logging.WARNING, "torchbase"):
        session_with(tmp_path, waiting_for(event))()
    assert warnings_of(caplog) == []


def test_the_default_hook_of_a_policy_is_named(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "torchbase"):
        session_with(tmp_path, StepsByItself(), nan_policy="skip")()
    assert "on_loss_computed ('nan_skip'); on_gradients_ready ('nan_skip')" in warnings_of(caplog)[0]


@pytest.mark.parametrize(("mini_batches", "is_called"), [(4, True), (1000, False)])
def test_accumulated_gradients_delay_the_step(tmp_path, caplog, mini_batches, is_called):
    class Accumulates:
        @hookimpl
        def should_step_optimizer(self, run):
            return (run.progress.iterations + 1) % mini_batches == 0

    with caplog.at_level(logging.WARNING, "torchbase"):
        session_with(tmp_path, Accumulates(), ExponentialMovingAverage(0.5))()
    assert (warnings_of(caplog) == []) is is_called
    if not is_called:
        assert "run_optimizer_step ('exponential_moving_average'). Another hook prevents them" in warnings_of(caplog)[0]


def test_the_warning_comes_before_the_end_of_a_long_phase(caplog):
    warned_after = []

    class Looks:
        @hookimpl
        def on_iteration_start(self, run):
            if not warned_after and warnings_of(caplog):
                warned_after.append(run.progress.iterations)

    def step(run, phase, batch):
        phase.values["loss"] = 1.0

    run = Run(training=Phase("training", range(200), is_training=True), max_epochs=1)
    with caplog.at_level(logging.WARNING, "torchbase"):
        Engine(step, [UncalledHooks(), Looks(), waiting_for("on_gradients_ready")]).run(run)
    assert len(warnings_of(caplog)) == 1
    assert 0 < warned_after[0] <= 64


def test_a_second_call_of_a_session_compares_again(tmp_path, caplog):
    session = session_with(tmp_path, num_epochs=1)
    session()
    session.register(StepsByItself())
    session.register(GradientClipping(1.0))
    session._run.max_epochs = 2
    with caplog.at_level(logging.WARNING, "torchbase"):
        session()
    assert len(warnings_of(caplog)) == 1


@pytest.mark.parametrize("stopped_at", range(1, 7))
def test_a_resumed_run_waits_for_an_iteration(tmp_path, caplog, stopped_at):
    session_with(tmp_path, GradientClipping(1.0), StopAt(stopped_at), num_epochs=2)()
    resumed = TinySession.resume(tmp_path)
    resumed.register(GradientClipping(1.0))
    with caplog.at_level(logging.WARNING, "torchbase"):
        resumed()
    assert warnings_of(caplog) == []


def test_a_resumed_run_compares_in_its_next_epoch(tmp_path, caplog):
    iterations = len(session_with(tmp_path / "other").dataloader_train)
    session_with(tmp_path, StopAt(iterations), num_epochs=2)()
    resumed = TinySession.resume(tmp_path)
    resumed.register(StepsByItself())
    resumed.register(GradientClipping(1.0))
    with caplog.at_level(logging.WARNING, "torchbase"):
        resumed()
    assert len(warnings_of(caplog)) == 1
