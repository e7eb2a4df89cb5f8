"""The states of the multiclass metrics over an epoch, and the functions that compute metrics from them.

The formulas are those of scikit-learn; the tests compare the values. A call of scikit-learn takes about a millisecond.
That is too long for a few sums, since a session computes these metrics for every tenth mini-batch.
"""

import math
from typing import Any, NamedTuple, Self, TypeAlias

import numpy as np
import torch
from torch import Tensor

from torchbase.metrics.base import check_finite, check_tensors, describe_tensor
from torchbase.metrics.epoch_kinds import EpochState
from torchbase.metrics.states import nan_with_warning

Counts: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]


class PreparedClasses(NamedTuple):
    """The checked classes and scores of a mini-batch, on the same device.

    Attributes:
        truth: The classes as int64, shape (samples,).
        scores: The scores in a dtype of at least 32 bits, shape (samples, classes).
        input_dtype: The dtype of the original scores.
    """

    truth: Tensor
    scores: Tensor
    input_dtype: torch.dtype


def prepare_classes(class_ground_truth: Tensor, class_scores: Tensor) -> PreparedClasses:
    """Checks both tensors, flattens them and moves them to the same device.

    Args:
        class_ground_truth: The argument of the metric.
        class_scores: The argument of the metric.

    Returns:
        Both tensors, for the states of the metrics.

    Raises:
        TypeError: The classes are not integers, or the dtype of the scores is not floating-point.
        ValueError: The shapes don't match, a tensor is empty, a score is not finite, or a class is out of range.
    """
    check_tensors(is_floating=False, class_ground_truth=class_ground_truth)
    check_tensors(is_floating=True, class_scores=class_scores)
    described = describe_tensor("class_ground_truth", class_ground_truth)
    if class_ground_truth.is_floating_point() or class_ground_truth.is_complex():
        raise TypeError(f"{described} has to contain class indices of an integer dtype.")
    if class_scores.dim() == 0 or class_scores.shape[:-1] != class_ground_truth.shape or class_scores.shape[-1] < 2:
        raise ValueError(
            f"{describe_tensor('class_scores', class_scores)} has to have the shape of {described} plus a last "
            "dimension of at least two classes. To fix, move the dimension of the classes to the end in forward_pass."
        )
    check_finite("class_scores", class_scores)
    scores = class_scores.detach().flatten(end_dim=-2) if class_scores.dim() > 1 else class_scores.detach()[None]
    truth = class_ground_truth.detach().to(scores.device, torch.int64).flatten()
    lowest, highest = torch.stack(torch.aminmax(truth)).tolist()
    if lowest < 0 or highest >= scores.shape[-1]:
        raise ValueError(
            f"{described} has to contain classes from 0 to {scores.shape[-1] - 1}, since class_scores has "
            f"{scores.shape[-1]} classes, but they range from {lowest} to {highest}."
        )
    # Dtypes below 32 bits support few operations; equal scores stay equal.
    return PreparedClasses(truth, scores.float() if scores.itemsize < 4 else scores, class_scores.dtype)


def to_probabilities(prepared: PreparedClasses, are_logits: bool) -> Tensor:
    """Computes the probabilities of the classes.

    Args:
        prepared: The return value of `prepare_classes`.
        are_logits: Whether the scores are logits; otherwise they are probabilities.

    Returns:
        The probabilities, in the shape of the scores.

    Raises:
        ValueError: The scores are not logits, and are out of range or don't sum to 1. The tolerance of the sum depends
            on the dtype of the original scores.
    """
    scores = prepared.scores
    if are_logits:
        scores = scores.cpu() if scores.device.type == "mps" else scores
        return scores.to(torch.float64).softmax(dim=-1)
    totals = scores.sum(dim=-1)
    lowest, highest = torch.stack(torch.aminmax(scores)).tolist()
    least, most = torch.stack(torch.aminmax(totals)).tolist()
    tolerance = max(1e-3, torch.finfo(prepared.input_dtype).eps ** 0.5)
    if lowest < 0 or highest > 1 or least < 1 - tolerance or most > 1 + tolerance:
        raise ValueError(
            f"{describe_tensor('class_scores', scores)} have to be probabilities for this metric, but they range from "
            f"{lowest:g} to {highest:g}, with sums from {least:g} to {most:g}. To fix, create the metrics with "
            "scores_are_logits=True if they are logits."
        )
    return scores


class ClassCounts(EpochState):
    """Counts, for each class, the correct predictions, the samples in the ground truth and the predictions."""

    def __init__(self) -> None:
        self._counts: Tensor | None = None

    def update(self, prepared: PreparedClasses) -> None:
        """Counts the classes of a mini-batch."""
        truth, scores, _ = prepared
        classes = check_class_count(len(self.truth), scores.shape[-1])
        predicted = scores.argmax(dim=-1)
        correct = truth[truth == predicted]
        shifted = torch.cat([correct, truth + classes, predicted + 2 * classes])  # a single call counts all three
        self._add(shifted.bincount(minlength=3 * classes).view(3, classes).cpu())

    def merge(self, other: Self) -> bool:
        """Adds the counts of another state."""
        if other._counts is not None:
            check_class_count(len(self.truth), len(other.truth))
            self._add(other._counts)
        return True

    @property
    def correct(self) -> Counts:
        """The number of correct predictions of each class, shape (classes,)."""
        return self._row(0)

    @property
    def truth(self) -> Counts:
        """The number of samples of each class in the ground truth, shape (classes,)."""
        return self._row(1)

    @property
    def predicted(self) -> Counts:
        """The number of predictions of each class, shape (classes,)."""
        return self._row(2)

    def _row(self, index: int) -> Counts:
        if self._counts is None:
            return np.zeros(0, dtype=np.int64)
        row: Counts = self._counts[index].numpy()
        return row

    def _add(self, counts: Tensor) -> None:
        self._counts = counts if self._counts is None else self._counts + counts

    def compute(self) -> float:
        """Computes the accuracy."""
        return accuracy(self)


def accuracy(counts: ClassCounts) -> float:
    """Computes the share of correct predictions. All micro averages equal it, since each sample has one class."""
    return int(counts.correct.sum()) / int(counts.truth.sum())


def balanced_accuracy(counts: ClassCounts) -> float:
    """Computes the mean of the recalls of the classes in the ground truth."""
    return float(_quotients(counts.correct, counts.truth)[counts.truth > 0].mean())


def precision_macro(counts: ClassCounts) -> float:
    """Computes the mean of the precisions of the classes that occur."""
    return float(_quotients(counts.correct, counts.predicted)[_occur(counts)].mean())


def recall_macro(counts: ClassCounts) -> float:
    """Computes the mean of the recalls of the classes that occur."""
    return float(_quotients(counts.correct, counts.truth)[_occur(counts)].mean())


def f1_score_macro(counts: ClassCounts) -> float:
    """Computes the mean of the F1 scores of the classes that occur."""
    return float(_quotients(2 * counts.correct, counts.truth + counts.predicted)[_occur(counts)].mean())


def cohen_kappa(counts: ClassCounts) -> float:
    """Computes Cohen's kappa. Returns NaN with a warning if there is only one class."""
    by_chance = float(counts.truth.astype(float) @ counts.predicted / float(counts.truth.sum()) ** 2)
    if by_chance == 1.0:
        return nan_with_warning(
            "cohen_kappa of MulticlassClassificationMetrics",
            f"the ground truth and the predictions contain only the class {int(counts.truth.argmax())}, but at least "
            "two are needed",
        )
    return 1 - (1 - accuracy(counts)) / (1 - by_chance)


def matthews_correlation(counts: ClassCounts) -> float:
    """Computes the Matthews correlation coefficient; 0 if the truth or the predictions contain one class only."""
    truth, predicted, samples = counts.truth.astype(float), counts.predicted.astype(float), float(counts.truth.sum())
    spread = float((samples**2 - truth @ truth) * (samples**2 - predicted @ predicted))
    return float(counts.correct.sum() * samples - truth @ predicted) / math.sqrt(spread) if spread > 0 else 0.0


def _quotients(numerators: Counts, denominators: Counts) -> np.ndarray[Any, np.dtype[np.float64]]:
    return numerators / np.maximum(denominators, 1)  # a numerator is 0 where its denominator is


def _occur(counts: ClassCounts) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return counts.truth + counts.predicted > 0


class TopHits(EpochState):
    """The share of samples whose class is among the classes with the highest scores."""

    def __init__(self, top_k: int) -> None:
        self._top_k = top_k
        self._hits, self._decisions, self._classes = 0, 0, 0

    def update(self, prepared: PreparedClasses) -> None:
        """Counts the hits of a mini-batch."""
        truth, scores, _ = prepared
        self._classes = check_class_count(self._classes, scores.shape[-1])
        if self._top_k >= self._classes:
            raise ValueError(
                f"{describe_tensor('class_scores', scores)} has {self._classes} classes, but top_k is {self._top_k}, "
                "so every prediction would count as correct. To fix, create the metrics with a top_k below the number "
                "of classes."
            )
        own_scores = scores.gather(-1, truth[:, None])
        later = torch.arange(self._classes, device=scores.device) > truth[:, None]
        # As in scikit-learn, the later class ranks higher among equal scores.
        classes_above = ((scores > own_scores) | ((scores == own_scores) & later)).sum(dim=-1)
        self._hits += int((classes_above < self._top_k).sum())
        self._decisions += len(truth)

    def merge(self, other: Self) -> bool:
        """Adds the hits of another state."""
        self._classes = check_class_count(self._classes, other._classes)
        self._hits, self._decisions = self._hits + other._hits, self._decisions + other._decisions
        return True

    def compute(self) -> float:
        """Computes the share."""
        return self._hits / self._decisions


class LogLoss(EpochState):
    """The mean of the negative logarithm of the probability of the class of the ground truth."""

    def __init__(self, are_logits: bool) -> None:
        self._are_logits = are_logits
        self._total, self._decisions = 0.0, 0

    def update(self, prepared: PreparedClasses) -> None:
        """Adds the logarithms of a mini-batch."""
        probabilities = to_probabilities(prepared, self._are_logits)
        truth = prepared.truth.to(probabilities.device)
        # As in scikit-learn: the logarithm of 0 is infinite.
        smallest = torch.finfo(probabilities.dtype).eps
        own_probabilities = probabilities.gather(-1, truth[:, None]).clamp(smallest, 1 - smallest)
        self._total -= float(own_probabilities.cpu().double().log().sum())
        self._decisions += len(truth)

    def merge(self, other: Self) -> bool:
        """Adds the logarithms of another state."""
        self._total, self._decisions = self._total + other._total, self._decisions + other._decisions
        return True

    def compute(self) -> float:
        """Computes the mean."""
        return self._total / self._decisions


def check_class_count(previous: int, current: int) -> int:
    """Checks that a mini-batch has the same number of classes as the previous mini-batches.

    Args:
        previous: The number of classes of the previous mini-batches; 0 for the first mini-batch.
        current: The number of classes of this mini-batch.

    Returns:
        The number of classes of this mini-batch.

    Raises:
        ValueError: The numbers differ.
    """
    if previous not in (0, current):
        raise ValueError(
            f"class_scores have {current} classes, but those of the previous mini-batches have {previous}. To fix, let "
            "forward_pass return a score for each class in every mini-batch."
        )
    return current
