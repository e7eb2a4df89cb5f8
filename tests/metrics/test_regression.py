import math
import re
import statistics

import pytest
import torch
from metrics.whole_epochs import epoch_value

from torchbase.metrics import RegressionMetrics
from torchbase.metrics.selection import select_metrics

TARGET = torch.tensor([1.0, 2.0, 4.0, 5.0])
PREDICTED = torch.tensor([1.0, 3.0, 2.0, 8.0])
# The absolute errors are 0, 1, 2 and 3. Target minus prediction is 0, -1, 2 and -3, with a mean of -0.5.
BY_HAND = {
    "mean_absolute_error": 6 / 4,
    "mean_squared_error": (0 + 1 + 4 + 9) / 4,
    "root_mean_squared_error": math.sqrt(14 / 4),
    "r2_score": 1 - 14 / (4 + 1 + 1 + 4),
    "explained_variance": 1 - (0.25 + 0.25 + 6.25 + 6.25) / 10,
    "median_absolute_error": 1.5,
    "max_error": 3.0,
    "mean_absolute_percentage_error": (0 + 1 / 2 + 2 / 4 + 3 / 5) / 4,
    "pearson_correlation": (-2 * -2.5 + -1 * -0.5 + 1 * -1.5 + 2 * 4.5) / math.sqrt(10 * 29),
}
NAMES = list(BY_HAND)
NEED_VARIANCE = ["r2_score", "explained_variance", "pearson_correlation"]


def compute(name, target, predicted):
    return RegressionMetrics().get_metrics([name])[name](target_values=target, predicted_values=predicted)


@pytest.mark.parametrize("name", NAMES)
def test_a_metric_has_the_value_computed_by_hand(name):
    value = compute(name, TARGET, PREDICTED)
    assert type(value) is float
    assert value == pytest.approx(BY_HAND[name])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(4, 1), (2, 2, 1), (1, 2, 1, 2)])
def test_the_shape_does_not_matter(name, shape):
    assert compute(name, TARGET.reshape(shape), PREDICTED.reshape(shape)) == pytest.approx(BY_HAND[name])


@pytest.mark.parametrize("name", ["mean_absolute_error", "root_mean_squared_error", "r2_score"])
def test_mini_batches_with_different_numbers_of_outputs_are_refused(name):
    selected = select_metrics([RegressionMetrics()], {"RegressionMetrics": [name]})
    epoch = selected.begin_epoch()
    epoch.add({"target_values": torch.rand(4, 3), "predicted_values": torch.rand(4, 3)}, {}, 4)
    with pytest.raises(ValueError, match="have 2 outputs, but those of the previous mini-batches have 3"):
        epoch.add({"target_values": torch.rand(4, 2), "predicted_values": torch.rand(4, 2)}, {}, 4)


@pytest.mark.parametrize("name", NEED_VARIANCE)
def test_the_warning_names_the_output_whose_targets_are_equal(name):
    target = torch.stack([TARGET, torch.full((4,), 0.1)], dim=1)
    with pytest.warns(UserWarning, match=f"^{name} of .* is NaN: all targets of output 1 are equal"):
        assert math.isnan(compute(name, target, torch.stack([PREDICTED, PREDICTED], dim=1)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_the_targets_may_be_of_any_real_dtype(name, dtype):
    assert compute(name, TARGET.to(dtype), PREDICTED) == pytest.approx(BY_HAND[name])


@pytest.mark.parametrize("name", NAMES)
def test_metrics_take_mapped_keys_and_tensors_that_require_gradients(name):
    metrics = RegressionMetrics({"price": "target_values", "guess": "predicted_values"})
    value = metrics.get_metrics([name])[name](price=TARGET, guess=PREDICTED.clone().requires_grad_())
    assert value == pytest.approx(BY_HAND[name])


@pytest.mark.parametrize("size", [1, 7, 64])
def test_the_variance_is_precise_if_the_mean_is_large(size):
    random = torch.Generator().manual_seed(size)
    target = 1e9 + torch.randn(200, generator=random, dtype=torch.float64)
    predicted = target + torch.randn(200, generator=random, dtype=torch.float64)
    outputs = {"target_values": target, "predicted_values": predicted}
    value = epoch_value(RegressionMetrics(), "pearson_correlation", outputs, size)
    assert value == pytest.approx(statistics.correlation(target.tolist(), predicted.tolist()), rel=1e-6)


def test_a_correlation_does_not_leave_its_range():
    values = torch.tensor([0.1, 0.2, 0.3])
    assert compute("pearson_correlation", values, values) <= 1.0
    assert compute("pearson_correlation", values, -values) >= -1.0
    assert compute("pearson_correlation", values * 1e-30, values * 1e30) == pytest.approx(1.0)


@pytest.mark.parametrize("name", NEED_VARIANCE)
@pytest.mark.parametrize("samples", [1, 3, 10])
@pytest.mark.parametrize("size", [1, 4])
def test_equal_targets_have_no_variance_despite_rounding(name, samples, size):
    outputs = {"target_values": torch.full((samples,), 0.1), "predicted_values": torch.linspace(0, 1, samples)}
    with pytest.warns(UserWarning, match=f"^{name} of RegressionMetrics is NaN: all targets are equal"):
        assert math.isnan(epoch_value(RegressionMetrics(), name, outputs, size))


def test_equal_predictions_have_no_correlation():
    with pytest.warns(UserWarning, match="^pearson_correlation of RegressionMetrics is NaN: all predictions are equal"):
        assert math.isnan(compute("pearson_correlation", TARGET, torch.full((4,), 0.3)))


def test_a_target_of_zero_causes_a_large_percentage_error():
    value = compute("mean_absolute_percentage_error", torch.tensor([0.0]), torch.tensor([1.0]))
    assert value == pytest.approx(1 / 2.220446049250313e-16)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("target", "predicted", "error", "message"),
    [
        ([1.0], torch.rand(1), TypeError, "target_values has to be a torch.Tensor, but got list: [1.0]"),
        (torch.rand(1), 1.0, TypeError, "predicted_values has to be a torch.Tensor, but got float: 1.0"),
        (torch.rand(2), torch.ones(2).int(), TypeError, "predicted_values (shape (2,), torch.int32) has to have a fl"),
        (torch.ones(2).cfloat(), torch.rand(2), TypeError, "target_values (shape (2,), torch.complex64) has to have a"),
        (
            torch.rand(2),
            torch.rand(2, 1),
            ValueError,
            "target_values (shape (2,), torch.float32) and predicted_values (shape (2, 1), torch.float32) have to be",
        ),
        (torch.rand(0), torch.rand(0), ValueError, "got empty tensors: target_values (shape (0,), torch.float32)"),
        (
            torch.tensor([math.nan]),
            torch.rand(1),
            ValueError,
            "target_values (shape (1,), torch.float32) has to be fin",
        ),
        (torch.rand(1), torch.tensor([math.inf]), ValueError, "1 of its 1 values are not, for example [inf]"),
    ],
)
def test_invalid_tensors_are_refused_with_a_description(name, target, predicted, error, message):
    with pytest.raises(error, match=re.escape(message)):
        compute(name, target, predicted)
