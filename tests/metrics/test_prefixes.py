"""Several instances of a family, by prefix, and families of validation only."""

import pytest
import torch
from tiny import TinySession, config_with
from torch import Tensor

from torchbase.errors import HookError, MetricsError
from torchbase.hooks import EarlyStopping
from torchbase.metrics import (
    BaseMetricsClass,
    BinaryClassificationMetrics,
    ImageReconstructionMetrics,
    ImageSegmentationMetrics,
    MulticlassClassificationMetrics,
    RegressionMetrics,
    TorchMetrics,
    higher_is_better,
    mean_over_samples,
)
from torchbase.metrics.selection import select_metrics


class Own(BaseMetricsClass):
    @higher_is_better
    @mean_over_samples
    def mean(self, *, values: Tensor) -> float:
        return float(values.mean())


def torch_metrics(keyword_maps=None, **options):
    torchmetrics = pytest.importorskip("torchmetrics")
    return TorchMetrics({"error": torchmetrics.MeanSquaredError()}, keyword_maps, **options)


FAMILIES = [
    Own,
    BinaryClassificationMetrics,
    ImageReconstructionMetrics,
    ImageSegmentationMetrics,
    MulticlassClassificationMetrics,
    RegressionMetrics,
    torch_metrics,
]


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_can_be_used_twice_with_prefixes(family):
    plain = list(family().get_all_metric_functionals_dict())
    first, second = family(prefix="head1"), family(prefix="head2")
    assert list(first.get_all_metric_functionals_dict()) == [f"head1_{name}" for name in plain]
    chosen = {type(first).__name__: [f"{head}_{name}" for head in ("head2", "head1") for name in plain]}
    selected = select_metrics([first, second], chosen)
    assert list(selected.names) == chosen[type(first).__name__]
    assert [selected.modes[f"head1_{name}"] for name in plain] == [
        select_metrics([family()], {type(first).__name__: plain}).modes[name] for name in plain
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_can_be_of_validation_only(family):
    names = list(family().get_all_metric_functionals_dict())
    metrics = family(validation_only=True)
    selected = select_metrics([metrics], {type(metrics).__name__: names})
    assert list(selected.of(is_training=False).names) == names
    assert selected.of(is_training=True).names == ()


def test_two_heads_have_the_values_of_their_own_outputs():
    heads = [
        MulticlassClassificationMetrics(
            {f"scores{n}": "class_scores", "label": "class_ground_truth"}, prefix=f"head{n}"
        )
        for n in (1, 2)
    ]
    names = ["head1_accuracy", "head2_accuracy", "head2_f1_score_macro"]
    selected = select_metrics(heads, {"MulticlassClassificationMetrics": names})
    label = torch.tensor([0, 1, 2, 1])
    right = torch.eye(3)[label]
    outputs = {"label": label, "scores1": right.roll(1, dims=1), "scores2": right}
    assert selected(outputs) == {"head1_accuracy": 0.0, "head2_accuracy": 1.0, "head2_f1_score_macro": 1.0}
    epoch = selected.begin_epoch()
    epoch.add(outputs, selected.on_host(outputs), 4)
    assert epoch.compute()[0] == selected(outputs)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"prefix": 1}, TypeError, "prefix of Own has to be a string or None, but got 1"),
        ({"prefix": ""}, MetricsError, "The prefix of Own is ''"),
        ({"prefix": "a/b"}, MetricsError, "letters, digits and underscores"),
        ({"validation_only": 1}, TypeError, "validation_only of Own has to be True or False, but got 1"),
    ],
)
def test_wrong_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        Own(**options)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_unknown_option_is_refused(family):
    with pytest.raises(TypeError, match="prefixes"):
        family(prefixes="head1")


def test_an_unknown_name_lists_the_names_with_their_prefixes():
    with pytest.raises(
        MetricsError, match=r"no metric 'head1_maen'.*Did you mean 'head1_mean'.*'head1_mean', 'head2_mean'"
    ):
        select_metrics([Own(prefix="head1"), Own(prefix="head2")], {"Own": ["head1_maen"]})


def test_the_same_prefix_twice_is_refused():
    with pytest.raises(MetricsError, match=r"returned Own twice with the prefix 'a'.*prefix='head1'"):
        select_metrics([Own(prefix="a"), Own(), Own(prefix="a")], {"Own": ["mean"]})


class Ambiguous(Own):
    def a_mean(self, *, values: Tensor) -> float:
        return 0.0


def test_a_prefix_that_makes_the_name_of_another_metric_is_refused_if_it_is_chosen():
    metrics = [Ambiguous(), Ambiguous(prefix="a")]
    with pytest.raises(MetricsError, match=r"Two instances of Ambiguous .* have the metric 'a_mean'"):
        select_metrics(metrics, {"Ambiguous": ["a_mean"]})
    assert select_metrics(metrics, {"Ambiguous": ["mean"]}).names == ("mean",)


class Detector(TinySession):
    """In training it returns no key for the metric of validation."""

    def forward_pass(self, mini_batch):
        outputs = super().forward_pass(mini_batch)
        return outputs if self.network.training else {**outputs, "values": outputs["output"]}

    def init_metrics(self):
        return [Own(validation_only=True), Own({"output": "values"}, prefix="trained")]


@pytest.mark.parametrize("parts", [None, 2])
def test_metrics_of_validation_only_are_not_computed_in_training(tmp_path, parts):
    config = config_with(mini_batch_size=6, mini_batch_parts=parts, metrics_every_n_iterations=1)
    config["metrics"] = {"Own": ["mean", "trained_mean"]}
    averages = Detector(config, tmp_path)().averages
    assert averages["training"].keys() == {"loss", "trained_mean"}
    assert averages["validation-valid"].keys() == {"loss", "mean", "trained_mean"}
    assert averages["validation-valid"]["mean"] == averages["validation-valid"]["trained_mean"]


def test_if_all_metrics_are_of_validation_only_training_measures_nothing(tmp_path):
    config = config_with()
    config["metrics"] = {"Own": ["mean"]}
    averages = Detector(config, tmp_path)().averages
    assert averages["training"].keys() == {"loss"}
    assert averages["validation-demo"].keys() == {"loss", "mean"}


def test_a_hook_that_monitors_such_a_metric_in_training_is_refused_at_the_latest_after_the_first_epoch(tmp_path):
    config = config_with()
    config["metrics"] = {"Own": ["mean"]}
    session = Detector(config, tmp_path)
    session.register(EarlyStopping("mean", phase="training"))
    with pytest.raises(HookError, match="training has no average named 'mean'"):
        session()
