import pytest
import torch
from tiny import CONFIG, TinySession, config_with, read_scalars

from torchbase import BaseMetricsClass
from torchbase.errors import MetricsError


class Distances(BaseMetricsClass):
    def absolute(self, *, output, target):
        return (output - target).abs().mean()

    def unused(self, *, something_else):
        return 0.0


class Measured(TinySession):
    def init_metrics(self):
        return [Distances()]


def configured(names=("absolute",), **session):
    return {**config_with(**session), "metrics": {"Distances": list(names)}}


def test_training_is_measured_every_n_iterations_from_the_first_of_each_epoch_and_validation_at_each(tmp_path):
    session = Measured(configured(metrics_every_n_iterations=3), tmp_path)
    summary = session()
    scalars = read_scalars(session.run_dir)
    assert [step for step, _ in scalars["training/absolute/iterations"]] == [1, 4, 6, 9]
    assert [step for step, _ in scalars["validation-valid/absolute/iterations"]] == [1, 2, 3, 4, 5, 6]
    assert [step for step, _ in scalars["training/absolute/epochs"]] == [1, 2]
    assert "unused" not in summary.averages["training"]


def test_a_mean_over_samples_is_exact_over_a_validation_set(tmp_path):
    session = Measured(configured(), tmp_path)
    summary = session()
    session.network.eval()
    with torch.no_grad():
        dataset = session.datasets_valid_dict["valid"].with_format("torch")[:]
        expected = (session.network(dataset["x"]) - dataset["y"]).abs().mean().item()
    assert summary.averages["validation-valid"]["absolute"] == pytest.approx(expected, rel=1e-6)


def test_a_keyword_that_forward_pass_does_not_return_is_named(tmp_path):
    with pytest.raises(MetricsError, match="'something_else', for"):
        Measured(configured(["unused"]), tmp_path)()


def test_without_chosen_metrics_nothing_is_measured(tmp_path):
    summary = Measured(CONFIG, tmp_path)()
    assert summary.averages["training"].keys() == {"loss"}
