"""Metrics of binary classification, computed by scikit-learn."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchbase.metrics.base import BaseMetricsClass, check_finite, check_tensors, describe_tensor
from torchbase.metrics.states import check_count, check_number

Array = np.ndarray[Any, Any]


class BinaryClassificationMetrics(BaseMetricsClass):
    """Compares predicted probabilities with a ground truth of 0 and 1.

    Each metric takes ``binary_ground_truth`` (zeros and ones of any dtype) and ``prediction_probabilities`` (of a
    floating-point dtype, from 0 to 1): tensors of one shape, whichever it is, on any device. They are flattened:
    each value is one decision. A probability of at least the threshold predicts 1. Each metric raises a TypeError
    for what is no such tensor, and a ValueError for empty tensors, differing shapes and values out of range.

    Micro averages count the decisions of both classes together, so that with two classes and one label a decision
    micro precision, recall and F1 score all equal the accuracy. Macro averages are the mean of the two classes' own
    values, taken over the classes that occur in the ground truth or the predictions. A quotient with nothing to
    count below it, as the precision of a class that is never predicted, is 0.

    Source: https://scikit-learn.org/stable/modules/model_evaluation.html#classification-metrics

    Args:
        keyword_maps: From keys of what ``forward_pass`` returns to names of the metrics' arguments.
        threshold: The least probability, from 0 to 1, that predicts 1.
        calibration_bins: Into how many bins of one width calibration_error sorts the probabilities, at least 1.

    Raises:
        TypeError: ``threshold`` is not a number, ``calibration_bins`` not a whole number, or ``keyword_maps`` not a
            mapping of strings to strings.
        ValueError: ``threshold`` is not from 0 to 1, or ``calibration_bins`` below 1.
        MetricsError: ``keyword_maps`` don't fit the metrics.
    """

    def __init__(
        self,
        keyword_maps: Mapping[str, str] | None = None,
        threshold: float = 0.5,
        calibration_bins: int = 15,
    ) -> None:
        super().__init__(keyword_maps)
        self._threshold = check_number("threshold", threshold, "a number from 0 to 1")
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold is a probability, from 0 to 1, but {threshold!r} came.")
        self._calibration_bins = check_count("calibration_bins", calibration_bins, lowest=1)

    def precision_micro(self, *, binary_ground_truth: Tensor, prediction_probabilities: Tensor) -> float:
        """Return the share of the predictions that are right, from 0 to 1, both classes counted together."""
        from sklearn.metrics import precision_score

        truth, predictions = self._decide(binary_ground_truth, prediction_probabilities)
        return float(precision_score(truth, predictions, average="micro", zero_division=0))

    def precision_macro(self, *, binary_ground_truth: Tensor, prediction_probabilities: Tensor) -> float:
        """Return the mean over the classes of the share of its predictions that are right, from 0 to 1."""
        from sklearn.metrics import precision_score

        truth, predictions = self._decide(binary_ground_truth, prediction_probabilities)
        return float(precision_score(truth, predictions, average="macro", zero_division=0))

    def recall_micro(self, *, binary_ground_truth: Tensor, prediction_probabilities: Tensor) -> float:
        """Return the share of the ground truth that is found, from 0 to 1, both classes counted together."""
        from sklearn.metrics import recall_score

        truth, predictions = self._decide(binary_ground_truth, prediction_probabilities)
        return float(recall_score(truth, predictions, average="micro", zero_division=0))

    def recall_macro(self, *, binary_ground_truth: Tensor, prediction_probabilities: Tensor) -> float:
        """Return the mean over the classes of the share of its ground truth that is found, from 0 to 1."""
        from sklearn.metrics import recall_score

        truth, predictions = self._decide(binary_ground_truth, prediction_probabilities)
        return float(recall_score(truth, predictions, average="macro", zero_division=0))

    def f1_score_micro(self, *, binary_ground_truth: Tensor, prediction_probabilities: Tensor) -> float:
        """Return the harmonic mean of micro precision and micro recall, from 0 to 1."""
        from sklearn.metrics import f1_score

        truth, predictions = self._decide(binary_ground_truth, prediction_probabilities)
        return float(f1_score(truth, predictions, average="micro", zero_division=0))

    def f1_score_macro(self, *, binary_ground_truth: Tensor, prediction_probabilities: Tensor) -> float:
        """Return the mean over the classes of the harmonic mean of precision and recall, from 0 to 1."""
        from sklearn.metrics import f1_score

        truth, predictions = self._decide(binary_ground_truth, prediction_probabilities)
        return float(f1_score(truth, predictions, average="macro", zero_division=0))

    def accuracy(self, *, binary_ground_truth: Tensor, prediction_probabilities: Tensor) -> float:
        """Return the share of decisions that are right, from 0 to 1."""
        from sklearn.metrics import accuracy_score

        truth, predictions = self._decide(binary_ground_truth, prediction_probabilities)
        return float(accuracy_score(truth, predictions))

    def balanced_accuracy(self, *, binary_ground_truth: Tensor, prediction_probabilities: Tensor) -> float:
        """Return the mean of the recalls of the classes that the ground truth holds, from 0 to 1."""
        from sklearn.metrics import recall_score

        truth, predictions = self._decide(binary_ground_truth, prediction_probabilities)
        # balanced_accuracy_score would give the same, but warns where the ground truth lacks a class.
        return float(recall_score(truth, predictions, labels=np.unique(truth), average="macro", zero_division=0))

    def roc_auc(self, *, binary_ground_truth: Tensor, prediction_probabilities: Tensor) -> float:
        """Return the area under the receiver operating characteristic, from 0 to 1; chance is 0.5.

        NaN if the ground truth holds one class only, with a UserWarning.
        """
        from sklearn.metrics import roc_auc_score

        truth, probabilities = _to_arrays(binary_ground_truth, prediction_probabilities)
        if truth.min() == truth.max():
            return self._give_undefined(
                "roc_auc", f"the ground truth holds only {truth[0]}, and both classes are needed"
            )
        return float(roc_auc_score(truth, probabilities))

    def pr_auc(self, *, binary_ground_truth: Tensor, prediction_probabilities: Tensor) -> float:
        """Return the average precision, the area under the stepwise precision-recall curve, from 0 to 1.

        NaN, with a UserWarning, if the ground truth holds no 1.
        """
        from sklearn.metrics import average_precision_score

        truth, probabilities = _to_arrays(binary_ground_truth, prediction_probabilities)
        if truth.max() == 0:
            return self._give_undefined("pr_auc", "the ground truth holds no 1, and at least one is needed")
        return float(average_precision_score(truth, probabilities))

    def brier_score(self, *, binary_ground_truth: Tensor, prediction_probabilities: Tensor) -> float:
        """Return the mean squared difference of probability and ground truth, from 0 to 1; less is better.

        Source: https://scikit-learn.org/stable/modules/model_evaluation.html#brier-score-loss
        """
        from sklearn.metrics import brier_score_loss

        truth, probabilities = _to_arrays(binary_ground_truth, prediction_probabilities)
        return float(brier_score_loss(truth, probabilities.astype(np.float64), pos_label=1))

    def log_loss(self, *, binary_ground_truth: Tensor, prediction_probabilities: Tensor) -> float:
        """Return the mean negative logarithm of the probability of the ground truth, at least 0; less is better.

        It is in nats. As in scikit-learn, probabilities are kept away from 0 and 1 by the precision of their dtype,
        but at least that of float32, so that a decision costs at most 16 in float32, and 36 in float64.

        Source: https://scikit-learn.org/stable/modules/model_evaluation.html#log-loss
        """
        from sklearn.metrics import log_loss

        truth, probabilities = _to_arrays(binary_ground_truth, prediction_probabilities)
        smallest = np.finfo(probabilities.dtype).eps
        # In float64, so that the sum over many decisions keeps its digits.
        probabilities = probabilities.astype(np.float64).clip(smallest, 1 - smallest)
        return float(log_loss(truth, probabilities, labels=[0, 1]))

    def matthews_correlation(self, *, binary_ground_truth: Tensor, prediction_probabilities: Tensor) -> float:
        """Return Matthews' correlation coefficient, from -1 to 1; more is better, and chance is 0.

        As in scikit-learn it is 0 if the ground truth or the predictions hold one class only.

        Source: https://en.wikipedia.org/wiki/Phi_coefficient
        """
        from sklearn.metrics import matthews_corrcoef

        truth, predictions = self._decide(binary_ground_truth, prediction_probabilities)
        if truth.min() == truth.max():
            return 0.0  # what scikit-learn gives, without its warning
        return float(matthews_corrcoef(truth, predictions))

    def calibration_error(self, *, binary_ground_truth: Tensor, prediction_probabilities: Tensor) -> float:
        """Return the expected calibration error, from 0 to 1; less is better.

        The probabilities are sorted into bins of one width, each without its lower edge and with its upper. It is the
        distance between the mean probability and the share of ones of a bin, averaged over the decisions.

        Source: Guo, Pleiss, Sun, Weinberger: On calibration of modern neural networks (2017),
        https://arxiv.org/abs/1706.04599, with the probability of 1 as the confidence
        """
        truth, probabilities = _to_arrays(binary_ground_truth, prediction_probabilities)
        # In the probabilities' own precision, so that float32 0.2 lies at an edge of 0.2.
        edges = np.linspace(0, 1, self._calibration_bins + 1).astype(probabilities.dtype)
        bins = np.searchsorted(edges[1:-1], probabilities, side="left")
        differences = np.bincount(bins, weights=truth - probabilities.astype(np.float64))
        return float(np.abs(differences).sum() / len(truth))

    def _decide(self, binary_ground_truth: Tensor, prediction_probabilities: Tensor) -> tuple[Array, Array]:
        truth, probabilities = _to_arrays(binary_ground_truth, prediction_probabilities)
        # In the probabilities' own precision, so that float32 0.7 reaches a threshold of 0.7.
        threshold = probabilities.dtype.type(self._threshold)
        return truth, (probabilities >= threshold).astype(np.int64)

    def _give_undefined(self, metric_name: str, reason: str) -> float:
        warnings.warn(f"{metric_name} of {type(self).__name__} is NaN: {reason}.", UserWarning, stacklevel=3)
        return float("nan")


def _to_arrays(binary_ground_truth: Tensor, prediction_probabilities: Tensor) -> tuple[Array, Array]:
    """Check both tensors and bring them to the host, flattened: the truth as int64, the probabilities as floats."""
    check_tensors(
        is_floating=False, binary_ground_truth=binary_ground_truth, prediction_probabilities=prediction_probabilities
    )
    check_tensors(is_floating=True, prediction_probabilities=prediction_probabilities)
    truth = binary_ground_truth.detach().cpu().flatten()
    probabilities = prediction_probabilities.detach().cpu().flatten()
    # The dtypes below 32 bits have no counterpart in NumPy, or few operations.
    truth = truth.float() if truth.is_floating_point() and truth.itemsize < 4 else truth
    probabilities = probabilities.float() if probabilities.itemsize < 4 else probabilities
    check_finite("prediction_probabilities", prediction_probabilities)
    _check_values(binary_ground_truth, truth, probabilities)
    return (truth == 1).to(torch.int64).numpy(), probabilities.numpy()


def _check_values(binary_ground_truth: Tensor, truth: Tensor, probabilities: Tensor) -> None:
    neither = (truth != 0) & (truth != 1)
    if neither.any():
        described = describe_tensor("binary_ground_truth", binary_ground_truth)
        raise ValueError(
            f"{described} has to hold zeros and ones, but {int(neither.sum())} of its {truth.numel()} values are "
            f"others, among them {truth[neither][:3].tolist()}."
        )
    lowest, highest = probabilities.min().item(), probabilities.max().item()
    if lowest < 0 or highest > 1:
        described = describe_tensor("prediction_probabilities", probabilities)
        raise ValueError(
            f"{described} has to hold values from 0 to 1, but they go from {lowest:g} to {highest:g}; if they are "
            "logits, return torch.sigmoid of them in forward_pass."
        )
