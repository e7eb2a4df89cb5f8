"""The state of the multilabel metrics over an epoch, and the functions that compute metrics from it.

The formulas are those of scikit-learn; the tests compare the values.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Self, TypeAlias

import numpy as np
import torch
from torch import Tensor

from torchbase.metrics.base import check_finite, check_tensors, describe_tensor
from torchbase.metrics.epoch_kinds import EpochState

Values: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
ComputePerLabel: TypeAlias = Callable[["LabelCounts"], Values]


class PreparedLabels(NamedTuple):
    """The checked labels and probabilities of a mini-batch, on the same device.

    Attributes:
        truth: The labels, as booleans, shape (samples, labels).
        probabilities: The probabilities in a dtype of at least 32 bits, shape (samples, labels).
    """

    truth: Tensor
    probabilities: Tensor


def prepare_labels(label_ground_truth: Tensor, label_probabilities: Tensor) -> PreparedLabels:
    """Checks both tensors and moves them to the same device.

    Args:
        label_ground_truth: The argument of the metric.
        label_probabilities: The argument of the metric.

    Returns:
        Both tensors, for the state of the metrics.

    Raises:
        TypeError: The dtype of the probabilities is not floating-point, or that of the labels is complex.
        ValueError: The shapes differ or are not (samples, labels), a tensor is empty, or a value is out of range.
    """
    check_tensors(is_floating=False, label_ground_truth=label_ground_truth, label_probabilities=label_probabilities)
    check_tensors(is_floating=True, label_probabilities=label_probabilities)
    described = describe_tensor("label_ground_truth", label_ground_truth)
    if label_ground_truth.is_complex():
        raise TypeError(f"{described} has to have a real dtype.")
    if label_ground_truth.dim() != 2 or label_ground_truth.shape[1] < 2:
        raise ValueError(
            f"{described} has to have the shape (samples, labels), with at least two labels. To fix, reshape it in "
            "forward_pass; for one label, use BinaryClassificationMetrics."
        )
    check_finite("label_probabilities", label_probabilities)
    probabilities = label_probabilities.detach()
    probabilities = probabilities.float() if probabilities.itemsize < 4 else probabilities
    truth = label_ground_truth.detach().to(probabilities.device)
    truth = truth.float() if truth.is_floating_point() and truth.itemsize < 4 else truth
    neither, outside = (truth != 0) & (truth != 1), (probabilities < 0) | (probabilities > 1)
    number_of_neither, number_outside = torch.stack([neither.sum(), outside.sum()]).tolist()
    if number_of_neither:
        raise ValueError(
            f"{described} has to contain only zeros and ones, but {number_of_neither} of its {truth.numel()} values "
            f"are neither, for example {truth[neither][:3].tolist()}."
        )
    if number_outside:
        raise ValueError(
            f"{describe_tensor('label_probabilities', label_probabilities)} has to contain values from 0 to 1, but "
            f"{number_outside} of its {truth.numel()} values are not, for example "
            f"{probabilities[outside][:3].tolist()}. To fix, apply a sigmoid to logits in forward_pass."
        )
    return PreparedLabels(truth == 1, probabilities)


class LabelCounts(EpochState):
    """Counts for each label, and how many samples have all their labels right."""

    def __init__(self, threshold: float, number_of_labels: int | None = None) -> None:
        """Starts with no samples.

        Args:
            threshold: The lowest probability that predicts a label.
            number_of_labels: The number of labels; None for that of the first mini-batch.
        """
        self._threshold, self._number_of_labels = threshold, number_of_labels
        self._counts: Tensor | None = None  # shape (3, labels)
        self._samples, self._exact = 0, 0

    def update(self, prepared: PreparedLabels) -> None:
        """Counts the labels of a mini-batch."""
        truth, probabilities = prepared
        self._number_of_labels = check_label_count(self._number_of_labels, truth.shape[1])
        # In the dtype of the probabilities, so that 0.7 in float32 reaches the threshold 0.7.
        predicted = probabilities >= probabilities.new_full((), self._threshold)
        exact = (predicted == truth).all(dim=1).sum().expand(truth.shape[1])
        # In one copy, since each copy from an accelerator synchronizes.
        counted = [(predicted & truth).sum(dim=0), truth.sum(dim=0), predicted.sum(dim=0), exact]
        *counts, exact_on_host = torch.stack(counted).cpu()
        self._add(torch.stack(counts), len(truth), int(exact_on_host[0]))

    def merge(self, other: Self) -> bool:
        """Adds the counts of another state."""
        if other._counts is not None:
            self._number_of_labels = check_label_count(self._number_of_labels, other._counts.shape[1])
            self._add(other._counts, other._samples, other._exact)
        return True

    @property
    def correct(self) -> Values:
        """The number of correct positive predictions of each label, shape (labels,)."""
        return self._row(0)

    @property
    def truth(self) -> Values:
        """The number of samples that have each label, shape (labels,)."""
        return self._row(1)

    @property
    def predicted(self) -> Values:
        """The number of predictions of each label, shape (labels,)."""
        return self._row(2)

    def compute(self) -> float:
        """Computes the share of samples whose labels are all right."""
        return self._exact / self._samples

    def hamming_loss(self) -> float:
        """Computes the share of wrong labels."""
        wrong = self.truth.sum() + self.predicted.sum() - 2 * self.correct.sum()
        return float(wrong / (self._samples * len(self.truth)))

    def _row(self, index: int) -> Values:
        counts = np.zeros((3, 0)) if self._counts is None else self._counts.numpy()
        row: Values = counts[index].astype(np.float64)
        return row

    def _add(self, counts: Tensor, samples: int, exact: int) -> None:
        self._counts = counts if self._counts is None else self._counts + counts
        self._samples, self._exact = self._samples + samples, self._exact + exact


def hamming_loss(counts: LabelCounts) -> float:
    """Computes the share of wrong labels."""
    return counts.hamming_loss()


def precisions(counts: LabelCounts) -> Values:
    """Computes the precision of each label, shape (labels,); 0 for one that is never predicted."""
    return _quotients(counts.correct, counts.predicted)


def recalls(counts: LabelCounts) -> Values:
    """Computes the recall of each label, shape (labels,); 0 for one that no sample has."""
    return _quotients(counts.correct, counts.truth)


def f1_scores(counts: LabelCounts) -> Values:
    """Computes the F1 score of each label, shape (labels,); 0 for one that doesn't occur."""
    return _quotients(2 * counts.correct, counts.truth + counts.predicted)


def precision_micro(counts: LabelCounts) -> float:
    """Computes the precision, counted over all labels together."""
    return float(_quotients(counts.correct.sum(), counts.predicted.sum()))


def recall_micro(counts: LabelCounts) -> float:
    """Computes the recall, counted over all labels together."""
    return float(_quotients(counts.correct.sum(), counts.truth.sum()))


def f1_score_micro(counts: LabelCounts) -> float:
    """Computes the F1 score, counted over all labels together."""
    return float(_quotients(2 * counts.correct.sum(), counts.truth.sum() + counts.predicted.sum()))


def check_label_count(expected: int | None, found: int) -> int:
    """Checks the number of labels of a mini-batch.

    Args:
        expected: The number of names, or of labels of the previous mini-batches; None before the first one.
        found: The number of labels of this mini-batch.

    Returns:
        The number of labels of this mini-batch.

    Raises:
        ValueError: The numbers differ.
    """
    if expected not in (None, found):
        raise ValueError(
            f"label_ground_truth has {found} labels, but {expected} are expected: those of label_names, or of the "
            "previous mini-batches. To fix, let forward_pass return each label in every mini-batch, in the order of "
            "label_names."
        )
    return found


def _quotients(numerators: Any, denominators: Any) -> Values:
    quotients: Values = numerators / np.maximum(denominators, 1)  # a numerator is 0 where its denominator is
    return quotients
