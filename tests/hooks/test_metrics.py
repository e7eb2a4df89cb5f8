import logging
import math

import pytest
import sklearn.metrics
import torch
from matplotlib.figure import Figure
from tiny import CONFIG, StopAt, TinySession, config_with, read_scalars

from torchbase import BaseMetricsClass, hookimpl
from torchbase.errors import MetricsError
from torchbase.metrics import BinaryClassificationMetrics, RegressionMetrics, TorchMetrics
from torchbase.metrics.epoch_kinds import EpochState, accumulated, figure_over_samples, mean_over_samples


class LargestSum(EpochState):
    def __init__(self):
        self.largest = torch.tensor(float("-inf"))

    def update(self, *, output, target):
        self.largest = torch.maximum(self.largest, (output + target).max())

    def compute(self):
        return self.largest


class Distances(BaseMetricsClass):
    def absolute(self, *, output, target):
        return (output - target).abs().mean()

    def median(self, *, output, target):
        return (output - target).abs().median()

    @mean_over_samples
    def squared(self, *, output, target):
        return (output - target).square().mean()

    @accumulated(lambda metrics: LargestSum())
    def largest_sum(self, *, output, target):
        return (output + target).max()

    @figure_over_samples
    def scatter(self, *, output, target):
        figure = Figure()
        figure.add_subplot().scatter(output.numpy(), target.numpy())
        figure.samples = len(output)
        return figure

    def unused(self, *, something_else):
        return 0.0


class Measured(TinySession):
    def init_metrics(self):
        return [Distances()]


def configured(names=("absolute",), **session):
    return {**config_with(**session), "metrics": {"Distances": list(names)}}


def test_every_nth_iteration_is_measured_from_the_first_of_each_epoch(tmp_path):
    session = Measured(configured(metrics_every_n_iterations=3), tmp_path)
    summary = session()
    scalars = read_scalars(session.run_dir)
    assert [step for step, _ in scalars["training/absolute/iterations"]] == [1, 4, 6, 9]
    assert [step for step, _ in scalars["validation-valid/absolute/iterations"]] == [1, 4]
    assert [step for step, _ in scalars["training/absolute/epochs"]] == [1, 2]
    assert "unused" not in summary.averages["training"]


def test_a_metric_is_computed_over_the_whole_validation_set(tmp_path):
    session = Measured(configured(), tmp_path)
    summary = session()
    session.network.eval()
    with torch.no_grad():
        dataset = session.datasets_valid_dict["valid"].with_format("torch")[:]
        expected = (session.network(dataset["x"]) - dataset["y"]).abs().mean().item()
    assert summary.averages["validation-valid"]["absolute"] == pytest.approx(expected, rel=1e-5)


def test_the_error_names_an_argument_that_forward_pass_does_not_return(tmp_path):
    with pytest.raises(MetricsError, match="'something_else', for"):
        Measured(configured(["unused"]), tmp_path)()


def test_without_selected_metrics_nothing_is_measured(tmp_path):
    summary = Measured(CONFIG, tmp_path)()
    assert summary.averages["training"].keys() == {"loss"}


ALL = ("absolute", "median", "squared", "largest_sum")


def metrics_of_whole_set(session, name):
    session.network.eval()
    with torch.no_grad():
        dataset = session.datasets_valid_dict[name].with_format("torch")[:]
        outputs = {"output": session.network(dataset["x"]), "target": dataset["y"]}
    return {metric: float(getattr(Distances(), metric)(**outputs)) for metric in ALL}


@pytest.mark.parametrize("size", [1, 3, 4, 10, 100])
def test_each_kind_returns_the_value_of_the_whole_set_for_any_mini_batch_size(tmp_path, size):
    class EvenIfAlone(Measured):
        def init_network(self):  # because batch normalization can't train on a single sample
            network = super().init_network()
            network.layers[1] = torch.nn.Identity()
            return network

    session = EvenIfAlone(configured(ALL, mini_batch_size=size), tmp_path)
    averages = session().averages
    for name in ("valid", "demo"):
        expected = metrics_of_whole_set(session, name)
        # A looser tolerance, because the rounding of the network depends on the mini-batch size.
        assert {metric: averages[f"validation-{name}"][metric] for metric in ALL} == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("stop", [1, 4, 5, 7])
def test_a_resumed_epoch_has_the_values_of_an_uninterrupted_epoch(tmp_path, stop):
    config = configured(ALL, metrics_every_n_iterations=2)
    whole = Measured(config, tmp_path / "whole")
    expected = whole().averages
    stopped = Measured(config, tmp_path / "stopped")
    stopped.register(StopAt(stop))
    stopped()
    resumed = Measured.resume(tmp_path / "stopped")
    assert resumed().averages == expected
    assert read_scalars(resumed.run_dir) == read_scalars(whole.run_dir)


def test_a_figure_is_logged_once_per_epoch_over_all_samples(tmp_path):
    figures = []

    class Record:
        @hookimpl
        def log_figure(self, tag, figure, step):
            figures.append((tag, figure.samples, step))

    session = Measured(configured(("scatter", "absolute"), metrics_every_n_iterations=1), tmp_path)
    session.register(Record())
    summary = session()
    assert "scatter" not in summary.averages["validation-valid"]
    assert figures == [
        (f"{phase}/scatter/epochs", samples, epoch)
        for epoch in (1, 2)
        for phase, samples in (("training", 18), ("validation-valid", 10), ("validation-demo", 6))
    ]


class Classifying(TinySession):
    """Uses the sign of y as the class; the demo set contains a single class."""

    def forward_pass(self, mini_batch):
        outputs = super().forward_pass(mini_batch)
        return {**outputs, "is_positive": outputs["target"] > 0, "probability": outputs["output"].sigmoid()}

    def init_metrics(self):
        maps = {"is_positive": "binary_ground_truth", "probability": "prediction_probabilities"}
        return [BinaryClassificationMetrics(maps)]


def test_the_area_under_a_curve_is_nan_with_a_warning_for_mini_batches_and_one_for_epochs_if_a_class_is_missing(
    tmp_path, caplog
):
    config = config_with(metrics_every_n_iterations=1)
    session = Classifying({**config, "metrics": {"BinaryClassificationMetrics": ["roc_auc"]}}, tmp_path)
    with caplog.at_level(logging.WARNING, "torchbase"):
        averages = session().averages
    session.network.eval()
    with torch.no_grad():
        dataset = session.datasets_valid_dict["valid"].with_format("torch")[:]
        expected = sklearn.metrics.roc_auc_score(dataset["y"] > 0, session.network(dataset["x"]).sigmoid())
    assert averages["validation-valid"]["roc_auc"] == pytest.approx(expected, abs=1e-9)
    assert math.isnan(averages["validation-demo"]["roc_auc"])
    messages = [record.getMessage() for record in caplog.records if "roc_auc" in record.getMessage()]
    assert len(messages) == 2
    assert messages[0].startswith("The metric 'roc_auc' is NaN for a mini-batch: mini-batch 1 of training, samples: 4.")
    assert messages[1].startswith("Over an epoch of validation-demo: roc_auc of BinaryClassificationMetrics is NaN")


class SpreadOfTwo(EpochState):
    def __init__(self):
        self.errors = torch.zeros(0)

    def update(self, *, output, target):
        self.errors = torch.cat([self.errors, (output - target).detach()])

    def compute(self):
        return spread(self.errors)


def spread(errors):
    if len(errors) < 2:
        raise ValueError("a spread needs two samples")
    return errors.std()


class Spreads(BaseMetricsClass):
    def over_samples(self, *, output, target):
        return spread(output - target)

    @accumulated(lambda metrics: SpreadOfTwo())
    def from_state(self, *, output, target):
        return spread(output - target)


class Spread(TinySession):
    def init_network(self):  # because batch normalization can't train on a single sample
        network = super().init_network()
        network.layers[1] = torch.nn.Identity()
        return network

    def init_metrics(self):
        torchmetrics = pytest.importorskip("torchmetrics")
        r2 = TorchMetrics({"r2": torchmetrics.R2Score()}, {"output": "preds"})
        return [Spreads(), RegressionMetrics({"output": "predicted_values", "target": "target_values"}), r2]


SPREADS = {
    "Spreads": ["over_samples", "from_state"],
    "RegressionMetrics": ["r2_score", "pearson_correlation"],
    "TorchMetrics": ["r2"],
}


# The sets have 18, 10 and 6 samples, so with 9 or 17 the last mini-batch has a single sample.
@pytest.mark.parametrize("size", [1, 9, 17])
def test_a_metric_that_needs_two_samples_is_nan_for_one_with_one_warning_and_counts_over_the_epoch(
    tmp_path, size, caplog
):
    config = config_with(mini_batch_size=size, metrics_every_n_iterations=1)
    session = Spread({**config, "metrics": SPREADS}, tmp_path)
    with caplog.at_level(logging.WARNING, "torchbase"):
        averages = session().averages
    session.network.eval()
    with torch.no_grad():
        dataset = session.datasets_valid_dict["valid"].with_format("torch")[:]
        output, target = session.network(dataset["x"]), dataset["y"]
    expected = {
        "over_samples": (output - target).std().item(),
        "from_state": (output - target).std().item(),
        "r2_score": sklearn.metrics.r2_score(target, output),
        "pearson_correlation": torch.corrcoef(torch.stack([output, target]))[0, 1].item(),
        "r2": sklearn.metrics.r2_score(target, output),
    }
    assert {name: averages["validation-valid"][name] for name in expected} == pytest.approx(expected, rel=1e-4)
    scalars = read_scalars(session.run_dir)["training/r2/iterations"]
    assert [step for step, value in scalars if math.isnan(value)] == {1: [*range(1, 37)], 9: [], 17: [2, 4]}[size]
    messages = [record.getMessage() for record in caplog.records if "is NaN for a mini-batch" in record.getMessage()]
    assert [message.split("'")[1] for message in messages] == list(expected)
    assert all("samples: 1. " in message for message in messages)
    assert "over_samples of Spreads is NaN: ValueError: a spread needs two samples." in messages[0]
    assert not [record for record in caplog.records if "Over an epoch" in record.getMessage()]


def test_a_stop_before_the_mini_batch_of_one_sample_changes_nothing(tmp_path):
    config = {**config_with(mini_batch_size=17, metrics_every_n_iterations=1), "metrics": SPREADS}
    whole = Spread(config, tmp_path / "whole")
    expected = whole().averages
    stopped = Spread(config, tmp_path / "stopped")
    stopped.register(StopAt(1))
    stopped()
    assert Spread.resume(tmp_path / "stopped")().averages == expected


def test_the_error_names_an_output_whose_shape_differs_between_mini_batches(tmp_path):
    class Ragged(Measured):
        def forward_pass(self, mini_batch):
            outputs = super().forward_pass(mini_batch)
            width = len(mini_batch["x"])
            return {**outputs, "output": outputs["output"][:, None].expand(-1, width), "target": outputs["output"]}

        def loss_function(self, *, output, target):
            return output.square().mean()

    session = Ragged(configured(("absolute",), mini_batch_size=7, metrics_every_n_iterations=100), tmp_path)
    with pytest.raises(MetricsError, match=r"shapes of the output 'output' of forward_pass differ.*\(3, 3\), \(7, 7\)"):
        session()
