"""Checks for each metric of each family: the value of an epoch equals the value of all its samples at once."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from metrics.whole_epochs import FAMILIES, FEWEST_SAMPLES, METRICS, epoch_of, epoch_value, whole_value

import torchbase.metrics
from torchbase.metrics import (
    BaseMetricsClass,
    BinaryClassificationMetrics,
    ImageReconstructionMetrics,
    ImageSegmentationMetrics,
    MulticlassClassificationMetrics,
    RegressionMetrics,
    TorchMetrics,
)

# Metrics that store sums or counts instead of samples.
WITHOUT_STORED_SAMPLES = [
    (family, metric)
    for family, metric in METRICS
    if family != "binary" and metric not in ("roc_auc_one_vs_rest", "median_absolute_error")
    if not metric.startswith(("average_precision_", "roc_auc_"))
]
ONE_CLASS = {
    "binary_ground_truth": torch.zeros(5),
    "prediction_probabilities": torch.linspace(0, 1, 5),
}
ONE_OF_THREE = {"class_ground_truth": torch.ones(5).long(), "class_scores": torch.tensor([[0.1, 0.8, 0.1]] * 5)}
CONSTANT = {"target_values": torch.full((5,), 0.1), "predicted_values": torch.linspace(0, 1, 5)}
PREDICTED_CONSTANT = {"target_values": torch.linspace(0, 1, 5), "predicted_values": torch.full((5,), 0.1)}
EMPTY = {"target_binary_image": torch.zeros(5, 2, 2), "output_binary_image": torch.zeros(5, 2, 2)}
UNDEFINED = [
    (BinaryClassificationMetrics(), "roc_auc", ONE_CLASS),
    (BinaryClassificationMetrics(), "pr_auc", ONE_CLASS),
    (MulticlassClassificationMetrics(), "roc_auc_one_vs_rest", ONE_OF_THREE),
    (MulticlassClassificationMetrics(), "cohen_kappa", ONE_OF_THREE),
    (RegressionMetrics(), "r2_score", CONSTANT),
    (RegressionMetrics(), "explained_variance", CONSTANT),
    (RegressionMetrics(), "pearson_correlation", CONSTANT),
    (RegressionMetrics(), "pearson_correlation", PREDICTED_CONSTANT),
    (ImageSegmentationMetrics(), "dice_score", EMPTY),
    (ImageSegmentationMetrics(), "iou_score", EMPTY),
]


def nearly(value):
    return pytest.approx(value, rel=1e-6, abs=1e-6)


def draw(family, samples, seed):
    return FAMILIES[family].draw(torch.Generator().manual_seed(seed), samples)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_all_metrics_of_the_families_are_tested(family):
    assert list(family.make().get_all_metric_functionals_dict()) == [*family.whole, *family.figures]


def test_all_families_are_tested():
    exported = [getattr(torchbase.metrics, name) for name in torchbase.metrics.__all__]
    classes = {one for one in exported if isinstance(one, type) and issubclass(one, BaseMetricsClass)}
    # TorchMetrics has separate tests, since torchmetrics is optional.
    assert {type(family.make()) for family in FAMILIES.values()} == classes - {BaseMetricsClass, TorchMetrics}


@pytest.mark.parametrize(("family", "metric"), METRICS)
@settings(max_examples=8)
@given(data=st.data(), samples=st.integers(FEWEST_SAMPLES, 24), seed=st.integers(0, 2**31))
def test_an_epoch_has_the_value_that_the_library_computes_for_all_samples(family, metric, data, samples, seed):
    size = data.draw(st.integers(1, samples + 1), label="mini-batch size")
    resumed_before = data.draw(st.integers(1, max(1, math.ceil(samples / size) - 1)), label="resumed before")
    outputs, metrics = draw(family, samples, seed), FAMILIES[family].make()
    expected = nearly(whole_value(FAMILIES[family], metric, outputs))
    uninterrupted = epoch_value(metrics, metric, outputs, size)
    assert uninterrupted == expected
    assert epoch_value(metrics, metric, outputs, size, resumed_before) == uninterrupted


@pytest.mark.parametrize(("family", "metric"), METRICS)
@pytest.mark.parametrize("samples", [9, 13])
def test_a_last_mini_batch_of_one_sample_counts_as_one_sample(family, metric, samples):
    outputs = draw(family, samples, seed=samples)
    value = epoch_value(FAMILIES[family].make(), metric, outputs, size=4)
    assert value == nearly(whole_value(FAMILIES[family], metric, outputs))


@pytest.mark.parametrize(("family", "metric"), METRICS)
def test_the_method_returns_the_value_of_the_epoch_for_all_samples(family, metric):
    outputs, metrics = draw(family, 10, seed=3), FAMILIES[family].make()
    value = metrics.get_metrics([metric])[metric](**outputs)
    assert type(value) is float
    assert value == pytest.approx(epoch_value(metrics, metric, outputs, size=3), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("family", "metric"), METRICS)
def test_all_metrics_of_a_family_can_be_computed_together_and_for_several_epochs(family, metric):
    outputs, metrics = draw(family, 8, seed=5), FAMILIES[family].make()
    alone = epoch_value(metrics, metric, outputs, size=3)
    for _ in range(2):
        assert epoch_of(metrics, list(FAMILIES[family].whole), outputs, size=3)[0][metric] == alone


@pytest.mark.parametrize(("family", "metric"), METRICS)
def test_the_default_device_does_not_matter(family, metric):
    outputs = draw(family, 9, seed=0)
    expected = epoch_value(FAMILIES[family].make(), metric, outputs, 4, resumed_before=1)
    with torch.device("meta"):
        assert epoch_value(FAMILIES[family].make(), metric, outputs, 4, resumed_before=1) == expected


@pytest.mark.parametrize(("family", "metric"), METRICS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_has_the_value_of_the_rounded_numbers(family, metric, dtype):
    outputs = draw(family, 9, seed=7)
    halves = {key: tensor.to(dtype) if tensor.is_floating_point() else tensor for key, tensor in outputs.items()}
    if family == "regression":  # its values are too large for half precision
        halves = {key: (tensor - 1e6).to(dtype) for key, tensor in outputs.items()}
    if metric == "log_loss" and family == "multiclass":
        halves["class_scores"] = torch.tensor([[0.5, 0.25, 0.125, 0.125]] * 9, dtype=dtype)
    if metric == "roc_auc_one_vs_rest" and family == "multiclass":
        halves["class_scores"] = torch.eye(4, dtype=dtype)[torch.arange(9) % 4]
    floats = {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in halves.items()}
    value = epoch_value(FAMILIES[family].make(), metric, halves, size=4)
    assert value == nearly(whole_value(FAMILIES[family], metric, floats))


@pytest.mark.parametrize(("family", "metric"), WITHOUT_STORED_SAMPLES)
def test_most_metrics_store_no_samples(family, metric):
    metrics = FAMILIES[family].make()
    selected = torchbase.metrics.selection.select_metrics([metrics], {type(metrics).__name__: [metric]})
    assert selected.begin_epoch().state_dict()["stored"] == {}


@pytest.mark.parametrize(("metrics", "metric", "outputs"), UNDEFINED)
def test_an_undefined_value_of_an_epoch_is_nan_with_a_warning_on_each_call(metrics, metric, outputs):
    for _ in range(2):
        with pytest.warns(UserWarning, match=f"^{metric} of {type(metrics).__name__} is NaN: ") as caught:
            assert math.isnan(epoch_value(metrics, metric, outputs, size=2))
        assert len(caught) == 1


@pytest.mark.parametrize(("metrics", "metric", "outputs"), UNDEFINED)
def test_a_value_undefined_for_mini_batches_is_defined_for_the_epoch(metrics, metric, outputs):
    family = next(family for family in FAMILIES.values() if isinstance(family.make(), type(metrics)))
    generator = torch.Generator().manual_seed(1)
    value = epoch_value(family.make(), metric, family.draw(generator, 6), size=1)
    assert math.isfinite(value)


def test_an_epoch_of_images_of_several_sizes_has_a_value():
    selected = torchbase.metrics.selection.select_metrics(
        [ImageReconstructionMetrics()], {"ImageReconstructionMetrics": ["psnr", "ssim"]}
    )
    epoch = selected.begin_epoch()
    for size in (12, 16):
        batch = {"target_image": torch.zeros(2, size, size), "output_image": torch.full((2, size, size), 0.1)}
        epoch.add(batch, selected.on_host(batch), 2)
    assert epoch.compute()[0]["psnr"] == pytest.approx(20, abs=1e-5)
