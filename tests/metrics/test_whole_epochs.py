"""The value of an epoch is that of all of its samples at once: for every metric of every family."""

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
)

# What keeps sums or counts, and so no samples.
KEEP_NO_SAMPLES = [
    (family, metric)
    for family, metric in METRICS
    if family != "binary" and metric not in ("roc_auc_one_vs_rest", "median_absolute_error")
]
ONE_CLASS = {
    "binary_ground_truth": torch.zeros(5),
    "prediction_probabilities": torch.linspace(0, 1, 5),
}
ONE_OF_THREE = {"class_ground_truth": torch.ones(5).long(), "class_scores": torch.tensor([[0.1, 0.8, 0.1]] * 5)}
CONSTANT = {"target_values": torch.full((5,), 0.1), "predicted_values": torch.linspace(0, 1, 5)}
PREDICTED_CONSTANT = {"target_values": torch.linspace(0, 1, 5), "predicted_values": torch.full((5,), 0.1)}
EMPTY = {"target_mask": torch.zeros(5, 2, 2), "predicted_mask": torch.zeros(5, 2, 2)}
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
def test_no_metric_is_forgotten_here(family):
    assert list(family.make().get_all_metric_functionals_dict()) == [*family.whole, *family.figures]


def test_no_family_is_forgotten_here():
    # Those of torchmetrics have tests of their own, since it may not be installed.
    tested = {type(family.make()).__name__ for family in FAMILIES.values()} | {
        BaseMetricsClass.__name__,
        "TorchMetrics",
    }
    assert tested == set(torchbase.metrics.__all__)


@pytest.mark.parametrize(("family", "metric"), METRICS)
@settings(max_examples=8, deadline=None)
@given(data=st.data(), samples=st.integers(FEWEST_SAMPLES, 24), seed=st.integers(0, 2**31))
def test_an_epoch_has_the_value_that_the_library_gives_for_all_samples(family, metric, data, samples, seed):
    size = data.draw(st.integers(1, samples + 1), label="mini-batch size")
    resumed_before = data.draw(st.integers(1, max(1, math.ceil(samples / size) - 1)), label="resumed before")
    outputs, metrics = draw(family, samples, seed), FAMILIES[family].make()
    expected = nearly(whole_value(FAMILIES[family], metric, outputs))
    without_a_break = epoch_value(metrics, metric, outputs, size)
    assert without_a_break == expected
    assert epoch_value(metrics, metric, outputs, size, resumed_before) == without_a_break


@pytest.mark.parametrize(("family", "metric"), METRICS)
@pytest.mark.parametrize("samples", [9, 13])
def test_a_last_mini_batch_of_one_sample_counts_as_one(family, metric, samples):
    outputs = draw(family, samples, seed=samples)
    value = epoch_value(FAMILIES[family].make(), metric, outputs, size=4)
    assert value == nearly(whole_value(FAMILIES[family], metric, outputs))


@pytest.mark.parametrize(("family", "metric"), METRICS)
def test_the_method_gives_the_same_for_all_samples_as_the_epoch(family, metric):
    outputs, metrics = draw(family, 10, seed=3), FAMILIES[family].make()
    value = metrics.get_metrics([metric])[metric](**outputs)
    assert type(value) is float
    assert value == pytest.approx(epoch_value(metrics, metric, outputs, size=3), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("family", "metric"), METRICS)
def test_all_metrics_of_a_family_may_be_computed_together_and_for_more_than_one_epoch(family, metric):
    outputs, metrics = draw(family, 8, seed=5), FAMILIES[family].make()
    alone = epoch_value(metrics, metric, outputs, size=3)
    for _ in range(2):
        assert epoch_of(metrics, list(FAMILIES[family].whole), outputs, size=3)[0][metric] == alone


@pytest.mark.parametrize(("family", "metric"), METRICS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_counts_as_what_it_holds(family, metric, dtype):
    outputs = draw(family, 9, seed=7)
    halves = {key: one.to(dtype) if one.is_floating_point() else one for key, one in outputs.items()}
    if family == "regression":  # whose values are too large for half precision
        halves = {key: (one - 1e6).to(dtype) for key, one in outputs.items()}
    if metric == "log_loss" and family == "multiclass":
        halves["class_scores"] = torch.tensor([[0.5, 0.25, 0.125, 0.125]] * 9, dtype=dtype)
    if metric == "roc_auc_one_vs_rest" and family == "multiclass":
        halves["class_scores"] = torch.eye(4, dtype=dtype)[torch.arange(9) % 4]
    floats = {key: one.float() if one.is_floating_point() else one for key, one in halves.items()}
    value = epoch_value(FAMILIES[family].make(), metric, halves, size=4)
    assert value == nearly(whole_value(FAMILIES[family], metric, floats))


@pytest.mark.parametrize(("family", "metric"), KEEP_NO_SAMPLES)
def test_most_metrics_keep_no_samples(family, metric):
    metrics = FAMILIES[family].make()
    selected = torchbase.metrics.selection.select_metrics([metrics], {type(metrics).__name__: [metric]})
    assert selected.begin_epoch().state_dict()["kept"] == {}


@pytest.mark.parametrize(("metrics", "metric", "outputs"), UNDEFINED)
def test_what_is_undefined_over_an_epoch_is_nan_with_a_warning_each_time(metrics, metric, outputs):
    for _ in range(2):
        with pytest.warns(UserWarning, match=f"^{metric} of {type(metrics).__name__} is NaN: ") as caught:
            assert math.isnan(epoch_value(metrics, metric, outputs, size=2))
        assert len(caught) == 1


@pytest.mark.parametrize(("metrics", "metric", "outputs"), UNDEFINED)
def test_mini_batches_may_lack_what_the_epoch_has(metrics, metric, outputs):
    family = next(one for one in FAMILIES.values() if isinstance(one.make(), type(metrics)))
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
