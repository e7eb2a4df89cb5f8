"""Metrics of image segmentation: how far predicted masks overlap with target masks."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from torchbase.metrics.base import BaseMetricsClass, check_finite, check_tensors, describe_tensor
from torchbase.metrics.epoch_kinds import EpochState, accumulated
from torchbase.metrics.states import check_count, check_number, give_undefined, value_at_once

# From both masks to the pixels of each class that lie in both, and those in the one and the other added up.
CountPixels = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class _Overlaps(EpochState):
    """Counts of pixels over an epoch, for each class."""

    _name = ""

    def __init__(self, count_pixels: CountPixels) -> None:
        self._count_pixels = count_pixels
        self._shared = torch.zeros(1, dtype=torch.int64)
        self._total = torch.zeros(1, dtype=torch.int64)

    def update(self, *, target_mask: Tensor, predicted_mask: Tensor) -> None:
        shared, total = torch.stack(self._count_pixels(target_mask, predicted_mask)).cpu()
        self._shared, self._total = self._shared + shared, self._total + total

    def compute(self) -> float:
        occurs = self._total > 0
        if not occurs.any():
            return give_undefined(
                f"{self._name} of ImageSegmentationMetrics", "neither the targets nor the predictions hold any pixel"
            )
        return float(self._scores(self._shared[occurs].double(), self._total[occurs].double()).mean())

    def state_dict(self) -> dict[str, Any]:
        return {"shared": self._shared, "total": self._total}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._shared, self._total = state["shared"], state["total"]

    @staticmethod
    @abstractmethod
    def _scores(shared: Tensor, total: Tensor) -> Tensor:
        """Gives the value of each class."""


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
    """Compares predicted masks with target masks, pixel by pixel.

    Each metric takes ``target_mask`` and ``predicted_mask``: tensors of one shape, whichever it is, on any device.

    Without ``num_classes`` the target holds zeros and ones of any dtype, and the prediction either such zeros and
    ones of a boolean or integer dtype, or probabilities from 0 to 1 of a floating-point dtype, of which those of at
    least the threshold predict 1. The value is that of the ones.

    With ``num_classes`` both hold the classes as integers from 0 to ``num_classes - 1``. The value is the mean of the
    values of the classes that occur in the targets or the predictions, the background included.

    The pixels of all images of an epoch are counted together, so that large regions weigh more than small ones. Where
    only one of target and prediction is empty, the value is 0. Where both are, over a whole epoch, there is nothing
    to compare: the value is NaN, with a UserWarning. Over an epoch a metric keeps two numbers for each class.

    Each metric raises a TypeError for what is no such tensor, and a ValueError for empty tensors, differing shapes
    and values out of range.

    Args:
        keyword_maps: From keys of what ``forward_pass`` returns to names of the metrics' arguments.
        threshold: The least probability, from 0 to 1, that predicts 1.
        num_classes: How many classes there are, at least 2; None for masks of zeros and ones.

    Raises:
        TypeError: ``threshold`` is no number, ``num_classes`` no whole number, or ``keyword_maps`` no mapping of
            strings to strings.
        ValueError: ``threshold`` is not from 0 to 1, or ``num_classes`` below 2.
        MetricsError: ``keyword_maps`` don't fit the metrics.
    """

    def __init__(
        self,
        keyword_maps: Mapping[str, str] | None = None,
        threshold: float = 0.5,
        num_classes: int | None = None,
    ) -> None:
        super().__init__(keyword_maps)
        self._threshold = check_number("threshold", threshold, "a number from 0 to 1")
        if not 0 <= self._threshold <= 1:
            raise ValueError(f"threshold is a probability, from 0 to 1, but {threshold!r} came.")
        self._num_classes = None if num_classes is None else check_count("num_classes", num_classes, lowest=2)

    @accumulated(lambda metrics: _Dice(metrics._count_pixels))
    def dice_score(self, *, target_mask: Tensor, predicted_mask: Tensor) -> float:
        """Return twice the shared pixels over those of target and prediction added up, from 0 to 1; more is better.

        It is the F1 score of the pixels. Where both masks are empty it is NaN, with a UserWarning.

        Source: https://en.wikipedia.org/wiki/Dice-S%C3%B8rensen_coefficient
        """
        return value_at_once(_Dice(self._count_pixels), target_mask=target_mask, predicted_mask=predicted_mask)

    @accumulated(lambda metrics: _IntersectionOverUnion(metrics._count_pixels))
    def iou_score(self, *, target_mask: Tensor, predicted_mask: Tensor) -> float:
        """Return the shared pixels over those in either mask, from 0 to 1; more is better.

        It is the Jaccard index. Where both masks are empty it is NaN, with a UserWarning.

        Source: https://en.wikipedia.org/wiki/Jaccard_index
        """
        state = _IntersectionOverUnion(self._count_pixels)
        return value_at_once(state, target_mask=target_mask, predicted_mask=predicted_mask)

    def _count_pixels(self, target_mask: Tensor, predicted_mask: Tensor) -> tuple[Tensor, Tensor]:
        check_tensors(is_floating=False, target_mask=target_mask, predicted_mask=predicted_mask)
        target_mask = target_mask.detach().to(predicted_mask.device)
        if self._num_classes is not None:
            return _count_of_classes(target_mask, predicted_mask.detach(), self._num_classes)
        target = _read_zeros_and_ones("target_mask", target_mask)
        if predicted_mask.is_floating_point():
            predicted = _read_probabilities(predicted_mask) >= self._threshold
        else:
            predicted = _read_zeros_and_ones("predicted_mask", predicted_mask)
        return (target & predicted).sum()[None], (target.sum() + predicted.sum())[None]


def _count_of_classes(target_mask: Tensor, predicted_mask: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    target = _read_classes("target_mask", target_mask, num_classes)
    predicted = _read_classes("predicted_mask", predicted_mask, num_classes)
    shared, in_target, in_predicted = (
        pixels.bincount(minlength=num_classes) for pixels in (target[target == predicted], target, predicted)
    )
    return shared, in_target + in_predicted


def _read_classes(name: str, mask: Tensor, num_classes: int) -> Tensor:
    if mask.is_floating_point() or mask.is_complex() or mask.dtype == torch.bool:
        raise TypeError(
            f"{describe_tensor(name, mask)} has to hold the {num_classes} classes as integers; of scores, return "
            "their argmax over the classes in forward_pass."
        )
    classes = mask.flatten().long()
    lowest, highest = torch.stack(torch.aminmax(classes)).tolist()
    if lowest < 0 or highest >= num_classes:
        raise ValueError(
            f"{describe_tensor(name, mask)} has to hold classes from 0 to {num_classes - 1}, but they go from "
            f"{lowest} to {highest}."
        )
    return classes


def _read_zeros_and_ones(name: str, mask: Tensor) -> Tensor:
    # Dtypes below 32 bits have few operations.
    values = mask.detach().float() if mask.is_floating_point() and mask.itemsize < 4 else mask.detach()
    neither = (values != 0) & (values != 1)
    if neither.any():
        raise ValueError(
            f"{describe_tensor(name, mask)} has to hold zeros and ones, but {int(neither.sum())} of its "
            f"{values.numel()} values are others, among them {values[neither][:3].tolist()}; for more classes, give "
            "ImageSegmentationMetrics num_classes."
        )
    return values == 1


def _read_probabilities(mask: Tensor) -> Tensor:
    """Gives the probabilities in a precision of at least 32 bits, which all devices compare well."""
    check_finite("predicted_mask", mask)
    probabilities = mask.detach().float() if mask.itemsize < 4 else mask.detach()
    lowest, highest = torch.stack(torch.aminmax(probabilities)).tolist()
    if lowest < 0 or highest > 1:
        raise ValueError(
            f"{describe_tensor('predicted_mask', mask)} has to hold probabilities from 0 to 1, but they go from "
            f"{lowest:g} to {highest:g}; if they are logits, return torch.sigmoid of them in forward_pass."
        )
    return probabilities
