import pytest
import torch
from tiny import TinySession, config_with

from torchbase import BaseMetricsClass, Engine, Phase, Run, hookimpl
from torchbase.errors import MetricsError, StepError
from torchbase.hooks import GradientClipping, LearningRateSchedule
from torchbase.metrics import mean_over_samples

# The events of the loop in which a hook may log a value, and whether it then belongs to an iteration.
EVENTS_OF_AN_ITERATION = [
    "on_phase_start",
    "on_iteration_start",
    "on_loss_computed",
    "on_gradients_ready",
    "on_iteration_end",
]
EVENTS_BETWEEN_PHASES = ["on_phase_end", "on_epoch_end", "on_run_end"]


class Distances(BaseMetricsClass):
    @mean_over_samples
    def distance(self, *, output, target):
        return (output - target).abs().mean()


class Session(TinySession):
    def loss_function(self, *, output, target):
        error = torch.nn.functional.mse_loss(output, target)
        return {"loss": error, "error": error.detach()}

    def init_metrics(self):
        return [Distances()]


def session_with(tmp_path, *hooks, kind=Session):
    session = kind({**config_with(num_epochs=1), "metrics": {"Distances": ["distance"]}}, tmp_path)
    for hook in hooks:
        session.register(hook)
    return session


def logs(name, event):
    """A hook that logs a value at an event."""

    def method(self, run):
        run.log(name, 123.0)

    method.__name__ = event
    return type("Logs", (), {event: hookimpl(method)})()


@pytest.mark.parametrize("event", EVENTS_OF_AN_ITERATION + EVENTS_BETWEEN_PHASES)
@pytest.mark.parametrize("name", ["loss", "error", "distance"])
def test_the_names_of_the_loss_its_parts_and_metrics_are_taken(tmp_path, name, event):
    with pytest.raises(StepError, match=rf"The value '{name}', logged by .* To fix, log it under another name"):
        session_with(tmp_path, logs(name, event))()


@pytest.mark.parametrize("name", ["loss", "error", "distance"])
def test_they_are_taken_in_forward_pass_before_training(tmp_path, name):
    class Logging(Session):
        def forward_pass(self, mini_batch):
            self.log(name, 123.0)
            return super().forward_pass(mini_batch)

    with pytest.raises(StepError, match=f"The value '{name}', logged by the session,"):
        session_with(tmp_path, kind=Logging)()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("event", EVENTS_OF_AN_ITERATION + EVENTS_BETWEEN_PHASES)
def test_a_name_of_ones_own_can_be_logged_in_each_iteration_and_epoch(tmp_path, event):
    session = session_with(tmp_path, logs("own", event))
    session()
    assert session._run.epochs_done == session.config_session.num_epochs


class First:
    @hookimpl
    def on_iteration_start(self, run):
        run.log("norm", 1.0)

    @hookimpl
    def on_epoch_end(self, run):
        run.log("gap", 1.0)


class Second:
    @hookimpl
    def on_iteration_end(self, run):
        run.log("norm", 2.0)


class SecondOfEpoch:
    @hookimpl
    def on_epoch_end(self, run):
        run.log("gap", 2.0)


class Twice(First):
    @hookimpl
    def on_loss_computed(self, run):
        for value in (1.0, 2.0):
            run.log("total", value)

    @hookimpl
    def on_iteration_end(self, run):
        def log():
            run.log("total", 3.0)

        log()


@pytest.mark.parametrize(("second", "name"), [(Second, "norm"), (SecondOfEpoch, "gap")])
def test_two_hooks_cannot_log_one_name(tmp_path, second, name):
    expected = f"'{name}', logged by {second.__name__}.*would replace the value of the same name that First"
    with pytest.raises(StepError, match=expected):
        session_with(tmp_path, First(), second())()


def test_a_hook_may_log_its_name_again(tmp_path):
    averages = session_with(tmp_path, Twice())().averages
    assert {phase: values["total"] for phase, values in averages.items()} == dict.fromkeys(averages, 3.0)


def test_a_technique_and_a_hook_cannot_log_one_name(tmp_path):
    schedule = LearningRateSchedule(torch.optim.lr_scheduler.ConstantLR, "1it")
    with pytest.raises(StepError, match=r"'learning_rate', logged by .* that _log_rates logs"):
        session_with(tmp_path, schedule, logs("learning_rate", "on_iteration_end"))()
    with pytest.raises(StepError, match=r"'gradient_norm', logged by .*GradientClipping\.run_optimizer_step"):
        session_with(tmp_path, GradientClipping(1.0), logs("gradient_norm", "on_gradients_ready"))()


def test_an_iteration_of_ones_own_logs_the_loss_which_no_hook_replaces():
    def step(run, phase, batch):
        run.log("loss", 1.0)

    def run_with(*hooks):
        Engine(step, hooks).run(Run(training=Phase("training", [1, 2], is_training=True), max_epochs=2))

    run_with()
    for event in ("on_iteration_start", "on_iteration_end"):
        with pytest.raises(StepError, match="the value of the same name that"):
            run_with(logs("loss", event))


def test_a_metric_does_not_replace_a_value_of_an_iteration_of_ones_own(tmp_path):
    class Step:
        @hookimpl
        def run_iteration(self, run, phase, batch):
            phase.outputs = {"output": run.network(batch["x"]), "target": batch["y"]}
            phase.loss = torch.zeros(())
            phase.values.update(loss=phase.loss, distance=123.0)

    with pytest.raises(MetricsError, match=r"The metric 'distance' .* has the name of a value that the iteration"):
        session_with(tmp_path, Step())()


def test_a_loss_that_is_computed_twice_in_an_iteration_is_no_error(tmp_path):
    class Twice:
        @hookimpl(wrapper=True)
        def run_iteration(self, run, phase, batch):
            run.call.run_forward(run=run, phase=phase, batch=batch)
            return (yield)

    session = session_with(tmp_path, Twice())
    session()
    assert "loss" in session._run.training.averages
