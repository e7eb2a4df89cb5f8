"""Metrics of image segmentation: how much predicted masks overlap with target masks."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Unpack

import torch
from torch import Tensor

from torchbase.metrics.base import BaseMetricsClass, CommonOptions, check_finite, check_tensors, describe_tensor
from torchbase.metrics.directions import higher_is_better
from torchbase.metrics.epoch_kinds import EpochState, accumulated
from torchbase.metrics.states import check_count, check_number, compute_mini_batch, nan_with_warning

# Maps a target mask and a predicted mask to two counts per class: the shared pixels, and the sum over both masks.
CountPixels = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class _Overlaps(EpochState):
    """Counts of the pixels of each class over an epoch."""

    _name = ""

    def __init__(self, count_pixels: CountPixels) -> None:
        self._count_pixels = count_pixels
        self._shared = torch.zeros(1, dtype=torch.int64, device="cpu")
        self._total = torch.zeros(1, dtype=torch.int64, device="cpu")

    def update(self, *, target_binary_image: Tensor, output_binary_image: Tensor) -> None:
        shared, total = torch.stack(self._count_pixels(target_binary_image, output_binary_image)).cpu()
        self._shared, self._total = self._shared + shared, self._total + total

    def compute(self) -> float:
        occurs = self._total > 0
        if not occurs.any():
            return nan_with_warning(
                f"{self._name} of ImageSegmentationMetrics", "the targets and the predictions are all empty"
            )
        return float(self._scores(self._shared[occurs].double(), self._total[occurs].double()).mean())

    def state_dict(self) -> dict[str, Any]:
        return {"shared": self._shared, "total": self._total}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._shared, self._total = state["shared"], state["total"]

    @staticmethod
    @abstractmethod
    def _scores(shared: Tensor, total: Tensor) -> Tensor:
        """Computes the value of each class."""


class _Dice(_Overlaps):
    _name = "dice_score"

    @staticmethod
    def _scores(shared: Tensor, total: Tensor) -> Tensor:
        return 2 * shared / total


class _IntersectionOverUnion(_Overlaps):
    _name = "iou_score"

    @staticmethod
    def _scores(shared: Tensor, total: Tensor) -> Tensor:
        return shared / (total - shared)


class ImageSegmentationMetrics(BaseMetricsClass):
    """Metrics that compare predicted masks with target masks, pixel by pixel.

    Each metric takes ``target_binary_image`` and ``output_binary_image``: tensors of the same, arbitrary shape, on any
    device.

    Without ``num_classes``, the target contains zeros and ones of any dtype. The prediction contains zeros and ones of
    a boolean or integer dtype, or probabilities from 0 to 1 of a floating-point dtype. Probabilities greater than or
    equal to the threshold predict 1. The value is that of the ones.

    With ``num_classes``, both masks contain class indices from 0 to ``num_classes - 1`` as integers. The value is the
    mean over the classes that occur in the targets or the predictions, including the background.

    The pixels of all images of an epoch are counted together, so large regions have a higher weight than small
    regions. If only the target or only the prediction is empty, the value is 0. If both are empty over the whole
    epoch, the value is NaN, with a UserWarning. Over an epoch, a metric stores two numbers for each class.

    Each metric raises a TypeError for arguments of another type or dtype, and a ValueError for empty tensors,
    different shapes and values out of range.

    Args:
        keyword_maps: Maps keys that ``forward_pass`` returns to arguments of the metrics.
        threshold: The lowest probability that predicts 1, from 0 to 1.
        num_classes: The number of classes, at least 2; None for masks of zeros and ones.
        **options: ``prefix`` and ``validation_only``; see `BaseMetricsClass`.

    Raises:
        TypeError: ``threshold`` is not a number, ``num_classes`` is not an integer, or ``keyword_maps`` is not a
            mapping of strings to strings.
        ValueError: ``threshold`` is not between 0 and 1, or ``num_classes`` is less than 2.
        MetricsError: ``keyword_maps`` doesn't fit the metrics.
    """

    def __init__(
        self,
        keyword_maps: Mapping[str, str] | None = None,
        threshold: float = 0.5,
        num_classes: int | None = None,
        **options: Unpack[CommonOptions],
    ) -> None:
        super().__init__(keyword_maps, **options)
        self._threshold = check_number("threshold", threshold, "a number from 0 to 1")
        if not 0 <= self._threshold <= 1:
            raise ValueError(f"threshold has to be a probability from 0 to 1, but got {threshold!r}.")
        self._num_classes = None if num_classes is None else check_count("num_classes", num_classes, lowest=2)

    @higher_is_better
    @accumulated(lambda metrics: _Dice(metrics._count_pixels))
    def dice_score(self, *, target_binary_image: Tensor, output_binary_image: Tensor) -> float:
        """Returns the Dice coefficient, from 0 to 1; higher is better.

        It is twice the number of shared pixels divided by the sum of the pixels of both masks, the F1 score of the
        pixels. It is NaN, with a UserWarning, if both masks are empty.

        Source: https://en.wikipedia.org/wiki/Dice-S%C3%B8rensen_coefficient
        """
        return compute_mini_batch(
            _Dice(self._count_pixels), target_binary_image=target_binary_image, output_binary_image=output_binary_image
        )

    @higher_is_better
    @accumulated(lambda metrics: _IntersectionOverUnion(metrics._count_pixels))
    def iou_score(self, *, target_binary_image: Tensor, output_binary_image: Tensor) -> float:
        """Returns the intersection over union, also called the Jaccard index, from 0 to 1; higher is better.

        It is the number of shared pixels divided by the number of pixels in at least one of the masks. It is NaN, with
        a UserWarning, if both masks are empty.

        Source: https://en.wikipedia.org/wiki/Jaccard_index
        """
        state = _IntersectionOverUnion(self._count_pixels)
        return compute_mini_batch(
            state, target_binary_image=target_binary_image, output_binary_image=output_binary_image
        )

    def _count_pixels(self, target_binary_image: Tensor, output_binary_image: Tensor) -> tuple[Tensor, Tensor]:
        check_tensors(
            is_floating=False, target_binary_image=target_binary_image, output_binary_image=output_binary_image
        )
        target_binary_image = target_binary_image.detach().to(output_binary_image.device)
        if self._num_classes is not None:
            return _count_class_pixels(target_binary_image, output_binary_image.detach(), self._num_classes)
        target = _read_zeros_and_ones("target_binary_image", target_binary_image)
        if output_binary_image.is_floating_point():
            predicted = _read_probabilities(output_binary_image) >= self._threshold
        else:
            predicted = _read_zeros_and_ones("output_binary_image", output_binary_image)
        return (target & predicted).sum()[None], (target.sum() + predicted.sum())[None]


def _count_class_pixels(
    target_binary_image: Tensor, output_binary_image: Tensor, num_classes: int
) -> tuple[Tensor, Tensor]:
    target = _read_classes("target_binary_image", target_binary_image, num_classes)
    predicted = _read_classes("output_binary_image", output_binary_image, num_classes)
    shared, in_target, in_predicted = (
        pixels.bincount(minlength=num_classes) for pixels in (target[target == predicted], target, predicted)
    )
    return shared, in_target + in_predicted


def _read_classes(name: str, mask: Tensor, num_classes: int) -> Tensor:
    if mask.is_floating_point() or mask.is_complex() or mask.dtype == torch.bool:
        raise TypeError(
            f"{describe_tensor(name, mask)} has to contain the {num_classes} classes as integers. To fix, return the "
            "argmax over the classes in forward_pass if it contains scores."
        )
    classes = mask.flatten().long()
    lowest, highest = torch.stack(torch.aminmax(classes)).tolist()
    if lowest < 0 or highest >= num_classes:
        raise ValueError(
            f"{describe_tensor(name, mask)} has to contain classes from 0 to {num_classes - 1}, but they range from "
            f"{lowest} to {highest}."
        )
    if highest == 1:
        _check_is_not_one_hot(name, mask, num_classes)
    return classes


def _check_is_not_one_hot(name: str, mask: Tensor, num_classes: int) -> None:
    # As class indices, one mask per class would have a plausible value.
    dimensions = [dimension for dimension in (1, mask.dim() - 1) if mask.dim() > 2]
    for dimension in dimensions:
        if mask.shape[dimension] == num_classes and bool((mask.sum(dim=dimension) == 1).all()):
            raise ValueError(
                f"{describe_tensor(name, mask)} seems to be one-hot: dimension {dimension} has a mask of zeros and "
                f"ones for each of the {num_classes} classes, but class indices are expected. To fix, return "
                f".argmax(dim={dimension}) of it in forward_pass."
            )


def _read_zeros_and_ones(name: str, mask: Tensor) -> Tensor:
    # Dtypes below 32 bits support few operations.
    values = mask.detach().float() if mask.is_floating_point() and mask.itemsize < 4 else mask.detach()
    neither = (values != 0) & (values != 1)
    if neither.any():
        raise ValueError(
            f"{describe_tensor(name, mask)} has to contain only zeros and ones, but {int(neither.sum())} of its "
            f"{values.numel()} values are neither, for example {values[neither][:3].tolist()}. To fix, pass "
            "num_classes to ImageSegmentationMetrics if there are more classes."
        )
    return values == 1


def _read_probabilities(mask: Tensor) -> Tensor:
    """Checks probabilities and returns them in a dtype of at least 32 bits, which every device can compare."""
    check_finite("output_binary_image", mask)
    probabilities = mask.detach().float() if mask.itemsize < 4 else mask.detach()
    lowest, highest = torch.stack(torch.aminmax(probabilities)).tolist()
    if lowest < 0 or highest > 1:
        raise ValueError(
            f"{describe_tensor('output_binary_image', mask)} has to contain probabilities from 0 to 1, but they range "
            f"from {lowest:g} to {highest:g}. To fix, return torch.sigmoid of them in forward_pass if they are logits."
        )
    return probabilities
