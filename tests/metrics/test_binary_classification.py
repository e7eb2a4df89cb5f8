import math
import re

import pytest
import sklearn.metrics
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchbase.metrics import BinaryClassificationMetrics

TRUTH = torch.tensor([0, 0, 0, 1, 1, 0])
PROBABILITIES = torch.tensor([0.1, 0.6, 0.2, 0.9, 0.4, 0.5])
# At 0.5 the predictions are 0 1 0 1 0 1. Two of three are correct for class 0, and one of three for class 1.
BY_HAND = {
    "precision_micro": 3 / 6,
    "precision_macro": (2 / 3 + 1 / 3) / 2,
    "recall_micro": 3 / 6,
    "recall_macro": (2 / 4 + 1 / 2) / 2,
    "f1_score_micro": 3 / 6,
    "f1_score_macro": (4 / 7 + 2 / 5) / 2,
    "accuracy": 3 / 6,
    "balanced_accuracy": (2 / 4 + 1 / 2) / 2,
    # 6 of the 8 pairs of a positive and a negative are in the correct order; the positives have ranks 1 and 4.
    "roc_auc": 6 / 8,
    "pr_auc": (1 / 1 + 2 / 4) / 2,
    "brier_score": (0.01 + 0.36 + 0.04 + 0.01 + 0.36 + 0.25) / 6,
    "log_loss": -sum(map(math.log, (0.9, 0.4, 0.8, 0.9, 0.4, 0.5))) / 6,
    # 1 true positive, 2 false positives, 1 false negative, 2 true negatives.
    "matthews_correlation": (1 * 2 - 2 * 1) / math.sqrt(3 * 2 * 4 * 3),
    # Each probability lies in a separate bin.
    "calibration_error": (0.1 + 0.6 + 0.2 + 0.1 + 0.6 + 0.5) / 6,
}
FROM_SCIKIT_LEARN = {
    "precision_micro": lambda t, p, d: sklearn.metrics.precision_score(t, d, average="micro"),
    "precision_macro": lambda t, p, d: sklearn.metrics.precision_score(t, d, average="macro", zero_division=0),
    "recall_micro": lambda t, p, d: sklearn.metrics.recall_score(t, d, average="micro"),
    "recall_macro": lambda t, p, d: sklearn.metrics.recall_score(t, d, average="macro", zero_division=0),
    "f1_score_micro": lambda t, p, d: sklearn.metrics.f1_score(t, d, average="micro"),
    "f1_score_macro": lambda t, p, d: sklearn.metrics.f1_score(t, d, average="macro", zero_division=0),
    "accuracy": lambda t, p, d: sklearn.metrics.accuracy_score(t, d),
    "balanced_accuracy": lambda t, p, d: sklearn.metrics.balanced_accuracy_score(t, d),
    "roc_auc": lambda t, p, d: sklearn.metrics.roc_auc_score(t, p),
    "pr_auc": lambda t, p, d: sklearn.metrics.average_precision_score(t, p),
    "brier_score": lambda t, p, d: sklearn.metrics.brier_score_loss(t, p),
    "log_loss": lambda t, p, d: sklearn.metrics.log_loss(t, p),
    "matthews_correlation": lambda t, p, d: sklearn.metrics.matthews_corrcoef(t, d),
}
NAMES = list(BY_HAND)
SHARES = ("precision", "recall", "f1_score", "accuracy", "balanced_accuracy")
AT_A_THRESHOLD = [name for name in NAMES if name.startswith(SHARES)]
DTYPES_OF_TRUTH = [torch.bool, torch.uint8, torch.int16, torch.int64, torch.bfloat16, torch.float16, torch.float64]


def compute(name, truth, probabilities, **settings):
    functional = BinaryClassificationMetrics(**settings).get_metrics([name])[name]
    return functional(binary_ground_truth=truth, prediction_probabilities=probabilities)


def test_the_metrics_are_those_documented():
    assert sorted(BinaryClassificationMetrics().get_all_metric_functionals_dict()) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_metric_has_the_value_computed_by_hand(name):
    value = compute(name, TRUTH, PROBABILITIES)
    assert type(value) is float
    assert value == pytest.approx(BY_HAND[name])


@settings(max_examples=30)
@given(
    samples=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 20)), min_size=1, max_size=12),
    threshold=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
)
def test_each_metric_equals_that_of_scikit_learn_if_both_classes_occur(samples, threshold):
    truth = torch.tensor([0, 1] + [label for label, _ in samples])
    probabilities = torch.tensor([0.25, 0.5] + [twentieths / 20 for _, twentieths in samples])
    predictions = (probabilities >= threshold).int()
    for name, from_scikit_learn in FROM_SCIKIT_LEARN.items():
        expected = from_scikit_learn(truth.numpy(), probabilities.numpy(), predictions.numpy())
        assert compute(name, truth, probabilities, threshold=threshold) == pytest.approx(expected), name


@pytest.mark.parametrize("name", NAMES)
def test_metrics_take_mapped_keys(name):
    metrics = BinaryClassificationMetrics(
        keyword_maps={"truth": "binary_ground_truth", "probabilities": "prediction_probabilities"}
    )
    functional = metrics.get_all_metric_functionals_dict()[name]
    assert functional(truth=TRUTH, probabilities=PROBABILITIES) == pytest.approx(BY_HAND[name])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(6, 1), (2, 3), (1, 3, 1, 2)])
def test_the_shape_does_not_matter(name, shape):
    assert compute(name, TRUTH.reshape(shape), PROBABILITIES.reshape(shape)) == pytest.approx(BY_HAND[name])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", DTYPES_OF_TRUTH, ids=str)
def test_the_ground_truth_may_be_of_any_dtype(name, dtype):
    assert compute(name, TRUTH.to(dtype), PROBABILITIES) == pytest.approx(BY_HAND[name])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_the_probabilities_may_be_of_any_floating_point_dtype(name, dtype):
    # bfloat16 rounds by up to 0.002.
    tolerance = {torch.float64: 1e-6, torch.float16: 1e-3, torch.bfloat16: 4e-3}[dtype]
    assert compute(name, TRUTH, PROBABILITIES.to(dtype)) == pytest.approx(BY_HAND[name], rel=tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_tensors_may_require_gradients_and_may_be_non_contiguous(name):
    probabilities = torch.stack([PROBABILITIES, PROBABILITIES], dim=1).requires_grad_()[:, 0]
    assert compute(name, TRUTH, probabilities) == pytest.approx(BY_HAND[name])
    assert probabilities.requires_grad


def test_a_probability_at_the_threshold_predicts_one_in_every_precision():
    for dtype in (torch.float32, torch.float64):
        assert compute("accuracy", torch.tensor([1]), torch.tensor([0.7], dtype=dtype), threshold=0.7) == 1.0


@pytest.mark.parametrize("name", AT_A_THRESHOLD)
@pytest.mark.parametrize(
    ("truth", "probability", "value"), [(0, 0.1, 1.0), (1, 0.9, 1.0), (0, 0.9, 0.0), (1, 0.1, 0.0)]
)
def test_a_single_class_has_a_value_without_a_warning(name, truth, probability, value):
    assert compute(name, torch.tensor([truth, truth]), torch.tensor([probability, probability])) == value


def test_balanced_accuracy_of_a_single_class_is_its_recall():
    assert compute("balanced_accuracy", torch.tensor([1, 1, 1, 1]), torch.tensor([0.9, 0.9, 0.9, 0.1])) == 0.75


def test_pr_auc_of_positives_only_is_one():
    assert compute("pr_auc", torch.tensor([1, 1]), torch.tensor([0.2, 0.3])) == 1.0


@pytest.mark.parametrize(("name", "label"), [("roc_auc", 0), ("roc_auc", 1), ("pr_auc", 0)])
def test_an_undefined_area_is_nan_with_a_warning_on_each_call(name, label):
    functional = BinaryClassificationMetrics().get_metrics([name])[name]
    for _ in range(2):
        with pytest.warns(UserWarning, match=f"^{name} of BinaryClassificationMetrics is NaN: .*only {label}|no 1"):
            value = functional(
                binary_ground_truth=torch.full((3,), label), prediction_probabilities=torch.tensor([0.1, 0.2, 0.3])
            )
        assert math.isnan(value)


@pytest.mark.parametrize(("truth", "probability"), [(0, 0.1), (1, 0.9), (0, 0.9), (1, 0.1)])
def test_matthews_correlation_of_a_single_class_is_zero_without_a_warning(truth, probability):
    assert compute("matthews_correlation", torch.full((3,), truth), torch.full((3,), probability)) == 0.0


def test_matthews_correlation_of_a_single_prediction_is_zero():
    assert compute("matthews_correlation", TRUTH, torch.full((6,), 0.9)) == 0.0


@pytest.mark.parametrize(
    ("dtype", "most"), [(torch.float32, 15.942385), (torch.bfloat16, 15.942385), (torch.float64, 36.043653)]
)
def test_the_log_loss_of_a_certain_but_wrong_prediction_is_finite(dtype, most):
    assert compute("log_loss", torch.tensor([1]), torch.tensor([0.0], dtype=dtype)) == pytest.approx(most)
    assert compute("log_loss", torch.tensor([1]), torch.tensor([1.0], dtype=dtype)) == pytest.approx(0, abs=2e-7)


@pytest.mark.parametrize("label", [0, 1])
def test_brier_score_and_log_loss_of_a_single_class(label):
    truth, probabilities = torch.full((2,), label), torch.tensor([0.25, 0.75], dtype=torch.float64)
    assert compute("brier_score", truth, probabilities) == pytest.approx((0.25**2 + 0.75**2) / 2)
    assert compute("log_loss", truth, probabilities) == pytest.approx(-math.log(0.25 * 0.75) / 2)


def test_calibration_error_averages_over_the_predictions_of_a_bin():
    truth, probabilities = torch.tensor([0, 1, 1, 1]), torch.tensor([0.5, 0.75, 0.75, 1.0], dtype=torch.float64)
    assert compute("calibration_error", truth, probabilities, calibration_bins=1) == pytest.approx(0.0)
    # The edge of 0.5 belongs to the lower bin.
    by_bin = abs(0 - 0.5) * 1 / 4 + abs(1 - 2.5 / 3) * 3 / 4
    assert compute("calibration_error", truth, probabilities, calibration_bins=2) == pytest.approx(by_bin)


def test_calibration_error_equals_that_of_torchmetrics():
    classification = pytest.importorskip("torchmetrics.classification")
    truth = (torch.arange(200) % 3 == 0).int()
    probabilities = torch.rand(200, generator=torch.Generator().manual_seed(2))
    expected = classification.BinaryCalibrationError(n_bins=10)(probabilities, truth)
    value = compute("calibration_error", truth, probabilities, calibration_bins=10)
    assert value == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("probabilities", [[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
def test_calibration_error_includes_both_ends(probabilities):
    truth = torch.tensor(probabilities)
    assert compute("calibration_error", truth, truth) == 0.0
    assert compute("calibration_error", 1 - truth, truth) == 1.0


@pytest.mark.parametrize("bins", ["15", 1.5, True, None])
def test_a_number_of_bins_that_is_not_an_integer_is_refused(bins):
    with pytest.raises(TypeError, match=f"calibration_bins has to be an integer .* but got {bins!r}"):
        BinaryClassificationMetrics(calibration_bins=bins)


def test_too_few_bins_are_refused():
    with pytest.raises(ValueError, match="calibration_bins has to be at least 1, but got 0"):
        BinaryClassificationMetrics(calibration_bins=0)


def test_each_undefined_metric_has_its_own_warning():
    metrics = BinaryClassificationMetrics()
    outputs = {"binary_ground_truth": torch.zeros(2), "prediction_probabilities": torch.tensor([0.1, 0.2])}
    with pytest.warns(UserWarning, match="^roc_auc of"):
        metrics.roc_auc(**outputs)
    with pytest.warns(UserWarning, match="^pr_auc of"):
        metrics.pr_auc(**outputs)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("truth", "probabilities", "error", "message"),
    [
        ([0, 1], torch.rand(2), TypeError, "binary_ground_truth has to be a torch.Tensor, but got list: [0, 1]"),
        (torch.ones(2), 0.5, TypeError, "prediction_probabilities has to be a torch.Tensor, but got float: 0.5"),
        (
            torch.ones(2),
            torch.ones(2).long(),
            TypeError,
            "prediction_probabilities (shape (2,), torch.int64) has to have a floating",
        ),
        (
            torch.ones(2),
            torch.rand(2, 1),
            ValueError,
            "(shape (2,), torch.float32) and prediction_probabilities (shape (2, 1), torch.float32) have to be equal",
        ),
        (
            torch.ones(0),
            torch.rand(0),
            ValueError,
            "tensors: binary_ground_truth (shape (0,), torch.float32) and prediction",
        ),
        (torch.tensor([0, 2]), torch.rand(2), ValueError, "1 of its 2 values are neither, for example [2]"),
        (torch.tensor([0.5, -1]), torch.rand(2), ValueError, "2 of its 2 values are neither, for example [0.5, -1.0]"),
        (torch.tensor([1, math.nan]), torch.rand(2), ValueError, "1 of its 2 values are neither, for example [nan]"),
        (
            torch.ones(2),
            torch.tensor([0.5, 1.5]),
            ValueError,
            "they range from 0.5 to 1.5. To fix, return torch.sigmoid",
        ),
        (torch.ones(2), torch.tensor([-0.5, 1]), ValueError, "they range from -0.5 to 1. To fix, return torch.sigmoid"),
        (torch.ones(2), torch.tensor([0.5, math.nan]), ValueError, "1 of its 2 values are not, for example [nan]"),
        (torch.ones(2), torch.tensor([math.inf, 0.5]), ValueError, "1 of its 2 values are not, for example [inf]"),
    ],
)
def test_invalid_tensors_are_refused_with_a_description(name, truth, probabilities, error, message):
    with pytest.raises(error, match=re.escape(message)):
        compute(name, truth, probabilities)


@pytest.mark.parametrize("threshold", ["0.5", None, True])
def test_a_threshold_that_is_not_a_number_is_refused(threshold):
    with pytest.raises(TypeError, match=f"threshold has to be a number from 0 to 1, but got {threshold!r}"):
        BinaryClassificationMetrics(threshold=threshold)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, math.nan])
def test_a_threshold_out_of_range_is_refused(threshold):
    with pytest.raises(ValueError, match=f"from 0 to 1, but got {threshold!r}"):
        BinaryClassificationMetrics(threshold=threshold)
