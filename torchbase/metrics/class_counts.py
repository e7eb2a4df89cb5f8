"""What the metrics of several classes keep over an epoch, and what they compute from it.

The formulas are those of scikit-learn, to which the tests compare them. Calls of it take a millisecond each, for what
are a few sums here, and a session computes them all for every tenth mini-batch.
"""

import math
from typing import Any, NamedTuple, Self, TypeAlias

import numpy as np
import torch
from torch import Tensor

from torchbase.metrics.base import check_finite, check_tensors, describe_tensor
from torchbase.metrics.epoch_kinds import EpochState
from torchbase.metrics.states import give_undefined

Counts: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]


class PreparedClasses(NamedTuple):
    """The classes and scores of a mini-batch, checked, on one device.

    Attributes:
        truth: The classes as int64, shape (decisions,).
        scores: The scores of at least 32 bits, shape (decisions, classes).
        given_dtype: The dtype in which the scores came.
    """

    truth: Tensor
    scores: Tensor
    given_dtype: torch.dtype


def prepare_classes(class_ground_truth: Tensor, class_scores: Tensor) -> PreparedClasses:
    """Checks both tensors and gives them flattened, on one device.

    Args:
        class_ground_truth: The metric's argument.
        class_scores: The metric's argument.

    Returns:
        Both, for the states of the metrics.

    Raises:
        TypeError: The classes are no integers, or the scores not of a floating-point dtype.
        ValueError: The shapes don't fit, values are missing or not finite, or a class is out of range.
    """
    check_tensors(is_floating=False, class_ground_truth=class_ground_truth)
    check_tensors(is_floating=True, class_scores=class_scores)
    described = describe_tensor("class_ground_truth", class_ground_truth)
    if class_ground_truth.is_floating_point() or class_ground_truth.is_complex():
        raise TypeError(f"{described} has to hold the numbers of the classes, of an integer dtype.")
    if class_scores.dim() == 0 or class_scores.shape[:-1] != class_ground_truth.shape or class_scores.shape[-1] < 2:
        raise ValueError(
            f"{describe_tensor('class_scores', class_scores)} has to have the shape of {described} and one dimension "
            "more, the last, of at least two classes; move the dimension of the classes there in forward_pass."
        )
    check_finite("class_scores", class_scores)
    scores = class_scores.detach().flatten(end_dim=-2) if class_scores.dim() > 1 else class_scores.detach()[None]
    truth = class_ground_truth.detach().to(scores.device, torch.int64).flatten()
    lowest, highest = torch.stack(torch.aminmax(truth)).tolist()
    if lowest < 0 or highest >= scores.shape[-1]:
        raise ValueError(
            f"{described} has to hold classes from 0 to {scores.shape[-1] - 1}, as class_scores has "
            f"{scores.shape[-1]} of them, but they go from {lowest} to {highest}."
        )
    # The dtypes below 32 bits have few operations; equal scores stay equal.
    return PreparedClasses(truth, scores.float() if scores.itemsize < 4 else scores, class_scores.dtype)


def probabilities_of(prepared: PreparedClasses, are_logits: bool) -> Tensor:
    """Gives the probabilities of the classes.

    Args:
        prepared: What `prepare_classes` gave.
        are_logits: Whether the scores are logits, and no probabilities yet.

    Returns:
        Probabilities of the shape of the scores; the dtype in which these came says how exactly they add up to 1.

    Raises:
        ValueError: They ought to be probabilities, but are out of range or don't add up to 1.
    """
    scores = prepared.scores
    if are_logits:
        scores = scores.cpu() if scores.device.type == "mps" else scores
        return scores.to(torch.float64).softmax(dim=-1)
    totals = scores.sum(dim=-1)
    lowest, highest = torch.stack(torch.aminmax(scores)).tolist()
    least, most = torch.stack(torch.aminmax(totals)).tolist()
    tolerance = max(1e-3, torch.finfo(prepared.given_dtype).eps ** 0.5)
    if lowest < 0 or highest > 1 or least < 1 - tolerance or most > 1 + tolerance:
        raise ValueError(
            f"{describe_tensor('class_scores', scores)} have to be probabilities for this metric, but they go from "
            f"{lowest:g} to {highest:g} and add up to between {least:g} and {most:g}; if they are logits, make the "
            "metrics with scores_are_logits=True."
        )
    return scores


class ClassCounts(EpochState):
    """How often each class was right, in the ground truth, and predicted: all that most metrics need."""

    def __init__(self) -> None:
        self._counts: Tensor | None = None

    def update(self, prepared: PreparedClasses) -> None:
        """Counts the classes of a mini-batch."""
        truth, scores, _ = prepared
        classes = same_classes(len(self.truth), scores.shape[-1])
        predicted = scores.argmax(dim=-1)
        right = truth[truth == predicted]
        together = torch.cat([right, truth + classes, predicted + 2 * classes])  # a single call counts all three
        self._add(together.bincount(minlength=3 * classes).view(3, classes).cpu())

    def merge(self, other: Self) -> bool:
        """Adds the counts of another state."""
        if other._counts is not None:
            same_classes(len(self.truth), len(other.truth))
            self._add(other._counts)
        return True

    @property
    def right(self) -> Counts:
        """By class how often it was predicted rightly, shape (classes,)."""
        return self._row(0)

    @property
    def truth(self) -> Counts:
        """By class how often it was in the ground truth, shape (classes,)."""
        return self._row(1)

    @property
    def predicted(self) -> Counts:
        """By class how often it was predicted, shape (classes,)."""
        return self._row(2)

    def _row(self, index: int) -> Counts:
        if self._counts is None:
            return np.zeros(0, dtype=np.int64)
        row: Counts = self._counts[index].numpy()
        return row

    def _add(self, counts: Tensor) -> None:
        self._counts = counts if self._counts is None else self._counts + counts

    def compute(self) -> float:
        """Gives the accuracy."""
        return accuracy(self)


def accuracy(counts: ClassCounts) -> float:
    """Gives the share of decisions that are right; with one class a decision all micro averages equal it."""
    return int(counts.right.sum()) / int(counts.truth.sum())


def balanced_accuracy(counts: ClassCounts) -> float:
    """Gives the mean of the recalls of the classes that the ground truth holds."""
    return float(_quotients(counts.right, counts.truth)[counts.truth > 0].mean())


def precision_macro(counts: ClassCounts) -> float:
    """Gives the mean of the precisions of the classes that occur."""
    return float(_quotients(counts.right, counts.predicted)[_occur(counts)].mean())


def recall_macro(counts: ClassCounts) -> float:
    """Gives the mean of the recalls of the classes that occur."""
    return float(_quotients(counts.right, counts.truth)[_occur(counts)].mean())


def f1_score_macro(counts: ClassCounts) -> float:
    """Gives the mean of the F1 scores of the classes that occur."""
    return float(_quotients(2 * counts.right, counts.truth + counts.predicted)[_occur(counts)].mean())


def cohen_kappa(counts: ClassCounts) -> float:
    """Gives Cohen's kappa; NaN, with a warning, if there is a single class."""
    by_chance = float(counts.truth.astype(float) @ counts.predicted / float(counts.truth.sum()) ** 2)
    if by_chance == 1.0:
        return give_undefined(
            "cohen_kappa of MulticlassClassificationMetrics",
            f"the ground truth and the predictions hold only the class {int(counts.truth.argmax())}, and at least two "
            "are needed",
        )
    return 1 - (1 - accuracy(counts)) / (1 - by_chance)


def matthews_correlation(counts: ClassCounts) -> float:
    """Gives Matthews' correlation coefficient; 0 if the ground truth or the predictions hold one class only."""
    truth, predicted, decisions = counts.truth.astype(float), counts.predicted.astype(float), float(counts.truth.sum())
    spread = float((decisions**2 - truth @ truth) * (decisions**2 - predicted @ predicted))
    return float(counts.right.sum() * decisions - truth @ predicted) / math.sqrt(spread) if spread > 0 else 0.0


def _quotients(above: Counts, below: Counts) -> np.ndarray[Any, np.dtype[np.float64]]:
    return above / np.maximum(below, 1)  # where nothing is below, nothing is above


def _occur(counts: ClassCounts) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return counts.truth + counts.predicted > 0


class TopHits(EpochState):
    """The share of decisions whose class is among those with the highest scores."""

    def __init__(self, top_k: int) -> None:
        self._top_k = top_k
        self._hits, self._decisions, self._classes = 0, 0, 0

    def update(self, prepared: PreparedClasses) -> None:
        """Counts the hits of a mini-batch."""
        truth, scores, _ = prepared
        self._classes = same_classes(self._classes, scores.shape[-1])
        if self._top_k >= self._classes:
            raise ValueError(
                f"{describe_tensor('class_scores', scores)} has {self._classes} classes, of which the best "
                f"{self._top_k} are all; make the metrics with a top_k below the number of classes."
            )
        own = scores.gather(-1, truth[:, None])
        later = torch.arange(self._classes, device=scores.device) > truth[:, None]
        # Of equal scores scikit-learn puts that of the later class first.
        before = ((scores > own) | ((scores == own) & later)).sum(dim=-1)
        self._hits += int((before < self._top_k).sum())
        self._decisions += len(truth)

    def merge(self, other: Self) -> bool:
        """Adds the hits of another state."""
        self._classes = same_classes(self._classes, other._classes)
        self._hits, self._decisions = self._hits + other._hits, self._decisions + other._decisions
        return True

    def compute(self) -> float:
        """Gives the share."""
        return self._hits / self._decisions


class LogLoss(EpochState):
    """The mean of the negative logarithm of the probability of the class of the ground truth."""

    def __init__(self, are_logits: bool) -> None:
        self._are_logits = are_logits
        self._total, self._decisions = 0.0, 0

    def update(self, prepared: PreparedClasses) -> None:
        """Adds the logarithms of a mini-batch."""
        probabilities = probabilities_of(prepared, self._are_logits)
        truth = prepared.truth.to(probabilities.device)
        # What scikit-learn does: away from 0, whose logarithm is infinite, by the precision of the dtype.
        smallest = torch.finfo(probabilities.dtype).eps
        own = probabilities.gather(-1, truth[:, None]).clamp(smallest, 1 - smallest)
        self._total -= float(own.cpu().double().log().sum())
        self._decisions += len(truth)

    def merge(self, other: Self) -> bool:
        """Adds the logarithms of another state."""
        self._total, self._decisions = self._total + other._total, self._decisions + other._decisions
        return True

    def compute(self) -> float:
        """Gives the mean."""
        return self._total / self._decisions


def same_classes(classes: int, given: int) -> int:
    """Checks that a mini-batch has as many classes as those before.

    Args:
        classes: How many there were, or 0 before the first mini-batch.
        given: How many the scores of the mini-batch have.

    Returns:
        How many it has.

    Raises:
        ValueError: It has others.
    """
    if classes not in (0, given):
        raise ValueError(
            f"class_scores have {given} classes, but those of the mini-batches before had {classes}; let forward_pass "
            "return a score for each class, in every mini-batch."
        )
    return given
