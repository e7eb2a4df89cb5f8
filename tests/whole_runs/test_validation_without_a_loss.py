"""Validation sets without a loss: detectors, which in evaluation mode return boxes."""

import json
from pathlib import Path

import pytest
import several
import torch
from tiny import StopAt, TinySession, config_with

from torchbase import hookimpl
from torchbase.errors import HookError, StepError
from torchbase.files.bitwise import different_values
from torchbase.hooks import BestValidation, EarlyStopping, MixedPrecision, RetryOnOutOfMemory
from torchbase.metrics import BaseMetricsClass, higher_is_better


class Closeness(BaseMetricsClass):
    @higher_is_better
    def closeness(self, *, predicted, expected):
        return -(predicted - expected).abs().mean()


class Detector(TinySession):
    """Its training returns the loss, its validation what it predicts."""

    def forward_pass(self, mini_batch):
        output, target = self.network(mini_batch["x"]), mini_batch["y"]
        if self.network.training:
            return {"losses": torch.nn.functional.mse_loss(output, target)}
        return {"predicted": output, "expected": target}

    def loss_function(self, *, losses=None):
        return losses

    def init_metrics(self):
        return [Closeness(validation_only=True)]


def config(**session):
    return {**config_with(mini_batch_size=6, **session), "metrics": {"Closeness": ["closeness"]}}


def session_with(kind, path, *hooks, monitor="closeness", **session):
    made = kind(config(**session), path)
    made.unregister("best_validation")
    for hook in (BestValidation(monitor), *hooks):
        made.register(hook)
    return made


def more_hooks():
    return MixedPrecision("bf16"), RetryOnOutOfMemory(), EarlyStopping("closeness")


@pytest.mark.parametrize("hooks", [tuple, more_hooks])
@pytest.mark.parametrize("options", [{}, {"mini_batch_parts": 2}, {"nan_policy": "skip"}])
def test_the_vote_goes_by_a_metric(tmp_path, options, hooks):
    session = session_with(Detector, tmp_path, *hooks(), num_epochs=3, **options)
    summary = session()
    assert summary.best_losses == {}
    assert summary.averages["training"].keys() == {"loss"}
    assert summary.averages["validation-valid"].keys() == {"closeness"}
    votes = [json.loads(line) for line in Path(session.run_dir, "votes.jsonl").read_text().splitlines()]
    assert len(votes) == 3
    assert votes[0]["is_best"] is True
    session.load_best_network()
    assert summary._repr_html_()


def test_training_is_that_with_a_loss_in_validation(tmp_path):
    class WithLoss(Detector):
        def loss_function(self, *, losses=None, predicted=None, expected=None):
            return losses if losses is not None else torch.nn.functional.mse_loss(predicted, expected)

    without, with_loss = session_with(Detector, tmp_path / "1"), session_with(WithLoss, tmp_path / "2")
    found, expected = without(), with_loss()
    assert different_values(with_loss.network.state_dict(), without.network.state_dict()) == []
    found_values = found.averages["validation-valid"]
    assert found_values == {"closeness": expected.averages["validation-valid"]["closeness"]}


@pytest.mark.parametrize("phase", ["training", "validation-valid"])
def test_a_run_without_a_loss_in_validation_resumes_exactly(tmp_path, phase):
    whole = session_with(Detector, tmp_path / "whole")
    expected = whole()
    stopped = session_with(Detector, tmp_path / "resumed", StopAt(2, phase))
    stopped()
    again = Detector.resume(tmp_path / "resumed")
    again.unregister("best_validation")
    again.register(BestValidation("closeness"))
    assert again().averages == expected.averages
    assert different_values(whole.network.state_dict(), again.network.state_dict()) == []


@pytest.mark.parametrize("hooks", [(), (EarlyStopping(),)])
def test_monitoring_the_loss_is_an_error_before_training(tmp_path, hooks):
    class NoIteration:
        @hookimpl
        def on_iteration_start(self):
            raise AssertionError

    session = session_with(Detector, tmp_path, NoIteration(), *hooks, monitor="closeness" if hooks else "loss")
    name = "EarlyStopping" if hooks else "BestValidation"
    message = rf"{name} monitors the loss, and validation-valid has none: .*{name}\('accuracy', mode='max'\)"
    with pytest.raises(HookError, match=message):
        session()


def test_a_set_for_demo_needs_no_loss(tmp_path):
    class DemoWithout(TinySession):
        def loss_function(self, *, output, target):
            is_demo = not self.network.training and float(target.mean()) > 5
            return None if is_demo else super().loss_function(output=output, target=target)

    summary = DemoWithout(config_with(), tmp_path)()
    assert summary.best_losses.keys() == {"validation-valid"}
    assert summary.averages["validation-demo"] == {}


def test_no_loss_in_training_is_an_error(tmp_path):
    class Without(TinySession):
        def loss_function(self, *, output, target):
            return None

    with pytest.raises(StepError, match=r"returned None.*Only in validation it may return None"):
        Without(config_with(), tmp_path)()


def test_a_hook_that_loses_the_loss_of_training_is_named(tmp_path):
    class Loses:
        @hookimpl(wrapper=True)
        def run_forward(self):
            yield

    session = TinySession(config_with(), tmp_path)
    session.register(Loses())
    with pytest.raises(StepError, match="a wrapper returns the result of its yield"):
        session()


def test_an_output_that_only_validation_lacks_is_explained(tmp_path):
    class Misses(Detector):
        def loss_function(self, *, losses):
            return losses

    with pytest.raises(StepError, match="If validation has no loss, give the parameter the default None") as caught:
        session_with(Misses, tmp_path)()
    assert any("first mini-batch of validation-valid" in note for note in caught.value.__notes__)


def test_parts_of_a_loss_are_logged_without_the_loss(tmp_path):
    class Parts(Detector):
        def loss_function(self, *, losses=None, predicted=None, expected=None):
            if losses is not None:
                return {"loss": losses, "size": losses}
            return {"loss": None, "size": predicted.abs().mean()}

    averages = session_with(Parts, tmp_path)().averages
    assert averages["validation-valid"].keys() == {"closeness", "size"}


def test_evaluate_returns_the_metrics(tmp_path):
    session = session_with(Detector, tmp_path)
    session()
    assert session.evaluate(session.datasets_valid_dict["valid"], "valid").keys() == {"closeness"}


def train(index, path):
    session = session_with(Detector, path, mini_batch_parts=2)
    summary = session()
    return session.network.state_dict(), {name: dict(values) for name, values in summary.averages.items()}


def test_several_processes_validate_without_a_loss(tmp_path):
    (expected,) = several.values_of(1, train, tmp_path / "1")
    for found in several.values_of(2, train, tmp_path / "2"):
        assert different_values(expected[0], found[0]) == []
        assert found[1] == expected[1]
