import math
import re

import pytest
import torch

from torchbase.metrics import ImageSegmentationMetrics

TARGET = torch.tensor([[1, 1, 0], [0, 1, 0]])
PROBABILITIES = torch.tensor([[0.9, 0.2, 0.5], [0.1, 0.7, 0.4]])
# At 0.5 the prediction is 1 0 1, 0 1 0. Two pixels are shared, and each mask has three pixels.
BY_HAND = {"dice_score": 2 * 2 / (3 + 3), "iou_score": 2 / 4}
LABELS = torch.tensor([0, 0, 1, 1, 2])
PREDICTED_LABELS = torch.tensor([0, 1, 1, 1, 0])
BY_HAND_OF_CLASSES = {"dice_score": (2 / 4 + 4 / 5 + 0) / 3, "iou_score": (1 / 3 + 2 / 3 + 0) / 3}
NAMES = list(BY_HAND)


def compute(name, target, predicted, **settings):
    functional = ImageSegmentationMetrics(**settings).get_metrics([name])[name]
    return functional(target_binary_image=target, output_binary_image=predicted)


@pytest.mark.parametrize("name", NAMES)
def test_a_metric_has_the_value_computed_by_hand(name):
    value = compute(name, TARGET, PROBABILITIES)
    assert type(value) is float
    assert value == pytest.approx(BY_HAND[name])


@pytest.mark.parametrize("name", NAMES)
def test_the_value_of_several_classes_is_the_mean_over_the_classes_that_occur(name):
    for num_classes in (3, 7):
        value = compute(name, LABELS, PREDICTED_LABELS, num_classes=num_classes)
        assert value == pytest.approx(BY_HAND_OF_CLASSES[name])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64], ids=str)
def test_masks_may_be_boolean_or_integers(name, dtype):
    predicted = (PROBABILITIES >= 0.5).to(dtype)
    assert compute(name, TARGET.to(dtype), predicted) == pytest.approx(BY_HAND[name])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_both_masks_may_be_of_any_floating_point_dtype(name, dtype):
    value = compute(name, TARGET.to(dtype), PROBABILITIES.to(dtype).requires_grad_())
    assert value == pytest.approx(BY_HAND[name])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32], ids=str)
def test_labels_may_be_of_any_integer_dtype(name, dtype):
    value = compute(name, LABELS.to(dtype), PREDICTED_LABELS.to(dtype), num_classes=3)
    assert value == pytest.approx(BY_HAND_OF_CLASSES[name])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_probability_at_the_threshold_predicts_one(dtype):
    assert compute("dice_score", torch.ones(1), torch.tensor([0.7], dtype=dtype), threshold=0.7) == 1.0


@pytest.mark.parametrize("name", NAMES)
def test_metrics_take_mapped_keys(name):
    metrics = ImageSegmentationMetrics({"mask": "target_binary_image", "probabilities": "output_binary_image"})
    assert metrics.get_metrics([name])[name](mask=TARGET, probabilities=PROBABILITIES) == pytest.approx(BY_HAND[name])


@pytest.mark.parametrize("name", NAMES)
def test_one_empty_mask_yields_zero_and_two_yield_nan_with_a_warning(name):
    empty, full = torch.zeros(2, 2).bool(), torch.ones(2, 2).bool()
    assert compute(name, empty, full) == 0.0
    assert compute(name, full, empty) == 0.0
    with pytest.warns(UserWarning, match=f"^{name} of ImageSegmentationMetrics is NaN: .* all empty"):
        assert math.isnan(compute(name, empty, empty))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("target", "predicted", "error", "message"),
    [
        ([1], torch.rand(1), TypeError, "target_binary_image has to be a torch.Tensor, but got list: [1]"),
        (torch.ones(1), None, TypeError, "output_binary_image has to be a torch.Tensor, but got NoneType"),
        (
            torch.ones(4, 4),
            torch.rand(1, 4, 4),
            ValueError,
            "target_binary_image (shape (4, 4), torch.float32) and output_binary_image (shape (1, 4, 4), torch",
        ),
        (
            torch.ones(0),
            torch.ones(0),
            ValueError,
            "got empty tensors: target_binary_image (shape (0,), torch.float32)",
        ),
        (torch.tensor([255, 0]), torch.rand(2), ValueError, "1 of its 2 values are neither, for example [255]. To fix"),
        (
            torch.tensor([0.5]),
            torch.rand(1),
            ValueError,
            "target_binary_image (shape (1,), torch.float32) has to contain only zer",
        ),
        (
            torch.ones(1),
            torch.tensor([2]),
            ValueError,
            "output_binary_image (shape (1,), torch.int64) has to contain only zer",
        ),
        (torch.ones(2), torch.tensor([0.5, 1.5]), ValueError, "range from 0.5 to 1.5. To fix, return torch.sigmoid"),
        (
            torch.ones(1),
            torch.tensor([math.nan]),
            ValueError,
            "output_binary_image (shape (1,), torch.float32) has to be f",
        ),
    ],
)
def test_invalid_masks_are_refused_with_a_description(name, target, predicted, error, message):
    with pytest.raises(error, match=re.escape(message)):
        compute(name, target, predicted)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("target", "predicted", "error", "message"),
    [
        (
            LABELS.float(),
            LABELS,
            TypeError,
            "target_binary_image (shape (5,), torch.float32) has to contain the 3 classes as int",
        ),
        (
            LABELS,
            LABELS.float(),
            TypeError,
            "output_binary_image (shape (5,), torch.float32) has to contain the 3 classes ",
        ),
        (
            LABELS > 0,
            LABELS,
            TypeError,
            "target_binary_image (shape (5,), torch.bool) has to contain the 3 classes as integers",
        ),
        (LABELS + 1, LABELS, ValueError, "has to contain classes from 0 to 2, but they range from 1 to 3"),
        (LABELS, LABELS - 1, ValueError, "has to contain classes from 0 to 2, but they range from -1 to 1"),
    ],
)
def test_invalid_labels_are_refused_with_a_description(name, target, predicted, error, message):
    with pytest.raises(error, match=re.escape(message)):
        compute(name, target, predicted, num_classes=3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("order", "dimension"), [((0, 1, 2, 3), 3), ((0, 3, 1, 2), 1)])
def test_one_hot_masks_are_refused_instead_of_class_indices(name, order, dimension):
    labels = torch.arange(2 * 4 * 5).reshape(2, 4, 5) % 3
    one_hot = torch.nn.functional.one_hot(labels, 3).permute(order)
    with pytest.raises(ValueError, match=rf"target_binary_image .* one-hot.* return .argmax\(dim={dimension}\)"):
        compute(name, one_hot, one_hot, num_classes=3)
    assert compute(name, one_hot.argmax(dim=dimension), labels, num_classes=3) == 1.0


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"threshold": "0.5"}, TypeError, "threshold has to be a number from 0 to 1, but got '0.5'"),
        ({"threshold": True}, TypeError, "threshold has to be a number from 0 to 1, but got True"),
        ({"threshold": 1.5}, ValueError, "threshold has to be a probability from 0 to 1, but got 1.5"),
        ({"num_classes": 2.0}, TypeError, "num_classes has to be an integer of at least 2, but got 2.0"),
        ({"num_classes": 1}, ValueError, "num_classes has to be at least 2, but got 1"),
    ],
)
def test_invalid_settings_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        ImageSegmentationMetrics(**settings)
