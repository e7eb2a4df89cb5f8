"""Metrics of binary classification, computed by scikit-learn."""

import warnings
from collections.abc import Mapping
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor

from torchbase.metrics.base import BaseMetricsClass, CommonOptions, check_finite, check_tensors, describe_tensor
from torchbase.metrics.directions import higher_is_better, lower_is_better
from torchbase.metrics.states import check_count, check_number

Array = np.ndarray[Any, Any]


class BinaryClassificationMetrics(BaseMetricsClass):
    """Metrics that compare predicted probabilities with a ground truth of zeros and ones.

    Each metric takes ``binary_ground_truth`` (zeros and ones of any dtype) and ``prediction_probabilities`` (values
    from 0 to 1 of a real dtype; those of an integer or boolean dtype are zeros and ones). Both are tensors of the same
    shape, on any device. They are flattened; each value is one prediction, for example each pixel of an image. A
    probability greater than or equal to the threshold predicts 1. Each metric raises a TypeError for arguments of
    another type or dtype, and a ValueError for empty tensors, different shapes and values out of range.

    Two dimensions are refused if the second is above 1: (samples, labels) is a problem of several labels, whose macro
    and micro averages are over the labels. `MultilabelClassificationMetrics` is for it.

    Micro averages count the predictions of both classes together. With one label per prediction, micro precision,
    recall and F1 score all equal the accuracy. Macro averages are the unweighted mean over the classes that occur in
    the ground truth or the predictions. A division by zero yields 0, for example the precision of a class that is
    never predicted.

    Source: https://scikit-learn.org/stable/modules/model_evaluation.html#classification-metrics

    Args:
        keyword_maps: Maps keys that ``forward_pass`` returns to arguments of the metrics.
        threshold: The lowest probability that predicts 1, from 0 to 1.
        calibration_bins: The number of bins of equal width in calibration_error, at least 1.
        **options: ``prefix`` and ``validation_only``; see `BaseMetricsClass`.

    Raises:
        TypeError: ``threshold`` is not a number, ``calibration_bins`` is not an integer, or ``keyword_maps`` is not
            a mapping of strings to strings.
        ValueError: ``threshold`` is not between 0 and 1, or ``calibration_bins`` is less than 1.
        MetricsError: ``keyword_maps`` doesn't fit the metrics.
    """

    def __init__(
        self,
        keyword_maps: Mapping[str, str] | None = None,
        threshold: float = 0.5,
        calibration_bins: int = 15,
        **options: Unpack[CommonOptions],
    ) -> None:
        super().__init__(keyword_maps, **options)
        self._threshold = check_number("threshold", threshold, "a number from 0 to 1")
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold has to be a probability from 0 to 1, but got {threshold!r}.")
        self._calibration_bins = check_count("calibration_bins", calibration_bins, lowest=1)

    @higher_is_better
    def precision_micro(self, *, binary_ground_truth: Tensor, prediction_probabilities: Tensor) -> float:
        """Returns the precision, from 0 to 1, counted over both classes together."""
        from sklearn.metrics import precision_score

        truth, predictions = self._decide(binary_ground_truth, prediction_probabilities)
        return float(precision_score(truth, predictions, average="micro", zero_division=0))

    @higher_is_better
    def precision_macro(self, *, binary_ground_truth: Tensor, prediction_probabilities: Tensor) -> float:
        """Returns the mean of the precisions of both classes, from 0 to 1."""
        from sklearn.metrics import precision_score

        truth, predictions = self._decide(binary_ground_truth, prediction_probabilities)
        return float(precision_score(truth, predictions, average="macro", zero_division=0))

    @higher_is_better
    def recall_micro(self, *, binary_ground_truth: Tensor, prediction_probabilities: Tensor) -> float:
        """Returns the recall, from 0 to 1, counted over both classes together."""
        from sklearn.metrics import recall_score

        truth, predictions = self._decide(binary_ground_truth, prediction_probabilities)
        return float(recall_score(truth, predictions, average="micro", zero_division=0))

    @higher_is_better
    def recall_macro(self, *, binary_ground_truth: Tensor, prediction_probabilities: Tensor) -> float:
        """Returns the mean of the recalls of both classes, from 0 to 1."""
        from sklearn.metrics import recall_score

        truth, predictions = self._decide(binary_ground_truth, prediction_probabilities)
        return float(recall_score(truth, predictions, average="macro", zero_division=0))

    @higher_is_better
    def f1_score_micro(self, *, binary_ground_truth: Tensor, prediction_probabilities: Tensor) -> float:
        """Returns the harmonic mean of micro precision and micro recall, from 0 to 1."""
        from sklearn.metrics import f1_score

        truth, predictions = self._decide(binary_ground_truth, prediction_probabilities)
        return float(f1_score(truth, predictions, average="micro", zero_division=0))

    @higher_is_better
    def f1_score_macro(self, *, binary_ground_truth: Tensor, prediction_probabilities: Tensor) -> float:
        """Returns the mean of the F1 scores of both classes, from 0 to 1."""
        from sklearn.metrics import f1_score

        truth, predictions = self._decide(binary_ground_truth, prediction_probabilities)
        return float(f1_score(truth, predictions, average="macro", zero_division=0))

    @higher_is_better
    def accuracy(self, *, binary_ground_truth: Tensor, prediction_probabilities: Tensor) -> float:
        """Returns the share of correct predictions, from 0 to 1."""
        from sklearn.metrics import accuracy_score

        truth, predictions = self._decide(binary_ground_truth, prediction_probabilities)
        return float(accuracy_score(truth, predictions))

    @higher_is_better
    def balanced_accuracy(self, *, binary_ground_truth: Tensor, prediction_probabilities: Tensor) -> float:
        """Returns the mean of the recalls of the classes in the ground truth, from 0 to 1."""
        from sklearn.metrics import recall_score

        truth, predictions = self._decide(binary_ground_truth, prediction_probabilities)
        # balanced_accuracy_score returns the same value, but warns if a class is not in the ground truth.
        return float(recall_score(truth, predictions, labels=np.unique(truth), average="macro", zero_division=0))

    @higher_is_better
    def roc_auc(self, *, binary_ground_truth: Tensor, prediction_probabilities: Tensor) -> float:
        """Returns the area under the receiver operating characteristic curve, from 0 to 1; chance is 0.5.

        Returns NaN with a UserWarning if the ground truth contains one class only.
        """
        from sklearn.metrics import roc_auc_score

        truth, probabilities = _to_arrays(binary_ground_truth, prediction_probabilities)
        if truth.min() == truth.max():
            return self._nan_with_warning(
                "roc_auc", f"the ground truth contains only {truth[0]}, but both classes are needed"
            )
        return float(roc_auc_score(truth, probabilities))

    @higher_is_better
    def pr_auc(self, *, binary_ground_truth: Tensor, prediction_probabilities: Tensor) -> float:
        """Returns the average precision, the area under the stepwise precision-recall curve, from 0 to 1.

        Returns NaN with a UserWarning if the ground truth contains no 1.
        """
        from sklearn.metrics import average_precision_score

        truth, probabilities = _to_arrays(binary_ground_truth, prediction_probabilities)
        if truth.max() == 0:
            return self._nan_with_warning("pr_auc", "the ground truth contains no 1, but at least one is needed")
        return float(average_precision_score(truth, probabilities))

    @lower_is_better
    def brier_score(self, *, binary_ground_truth: Tensor, prediction_probabilities: Tensor) -> float:
        """Returns the mean squared difference between probability and ground truth, from 0 to 1; lower is better.

        Source: https://scikit-learn.org/stable/modules/model_evaluation.html#brier-score-loss
        """
        from sklearn.metrics import brier_score_loss

        truth, probabilities = _to_arrays(binary_ground_truth, prediction_probabilities)
        return float(brier_score_loss(truth, probabilities.astype(np.float64), pos_label=1))

    @lower_is_better
    def log_loss(self, *, binary_ground_truth: Tensor, prediction_probabilities: Tensor) -> float:
        """Returns the mean negative logarithm of the probability of the ground truth, at least 0; lower is better.

        The unit is nats. As in scikit-learn, probabilities are clipped to ``[eps, 1 - eps]``, with the ``eps`` of
        their dtype; dtypes below 32 bits use that of float32. So the loss of a prediction is at most 16 in float32
        and 36 in float64.

        Source: https://scikit-learn.org/stable/modules/model_evaluation.html#log-loss
        """
        from sklearn.metrics import log_loss

        truth, probabilities = _to_arrays(binary_ground_truth, prediction_probabilities)
        smallest = np.finfo(probabilities.dtype).eps
        # In float64, for a precise sum over many predictions.
        probabilities = probabilities.astype(np.float64).clip(smallest, 1 - smallest)
        return float(log_loss(truth, probabilities, labels=[0, 1]))

    @higher_is_better
    def matthews_correlation(self, *, binary_ground_truth: Tensor, prediction_probabilities: Tensor) -> float:
        """Returns the Matthews correlation coefficient, from -1 to 1; higher is better, and chance is 0.

        As in scikit-learn, it is 0 if the ground truth or the predictions contain one class only.

        Source: https://en.wikipedia.org/wiki/Phi_coefficient
        """
        from sklearn.metrics import matthews_corrcoef

        truth, predictions = self._decide(binary_ground_truth, prediction_probabilities)
        if truth.min() == truth.max():
            return 0.0  # as scikit-learn, but without its warning
        return float(matthews_corrcoef(truth, predictions))

    @lower_is_better
    def calibration_error(self, *, binary_ground_truth: Tensor, prediction_probabilities: Tensor) -> float:
        """Returns the expected calibration error, from 0 to 1; lower is better.

        The probabilities are sorted into bins of equal width; a bin includes its upper edge and excludes its lower
        edge. The error of a bin is the absolute difference between its mean probability and its share of ones. The
        value is the mean of these errors, weighted by the number of predictions in the bins.

        Source: Guo, Pleiss, Sun, Weinberger: On calibration of modern neural networks (2017),
        https://arxiv.org/abs/1706.04599, with the probability of 1 as the confidence
        """
        truth, probabilities = _to_arrays(binary_ground_truth, prediction_probabilities)
        # In the dtype of the probabilities, so that 0.2 in float32 lies at the edge 0.2.
        edges = np.linspace(0, 1, self._calibration_bins + 1).astype(probabilities.dtype)
        bins = np.searchsorted(edges[1:-1], probabilities, side="left")
        differences = np.bincount(bins, weights=truth - probabilities.astype(np.float64))
        return float(np.abs(differences).sum() / len(truth))

    def _decide(self, binary_ground_truth: Tensor, prediction_probabilities: Tensor) -> tuple[Array, Array]:
        truth, probabilities = _to_arrays(binary_ground_truth, prediction_probabilities)
        # In the dtype of the probabilities, so that 0.7 in float32 reaches the threshold 0.7.
        threshold = probabilities.dtype.type(self._threshold)
        return truth, (probabilities >= threshold).astype(np.int64)

    def _nan_with_warning(self, metric_name: str, reason: str) -> float:
        warnings.warn(f"{metric_name} of {type(self).__name__} is NaN: {reason}.", UserWarning, stacklevel=3)
        return float("nan")


def _to_arrays(binary_ground_truth: Tensor, prediction_probabilities: Tensor) -> tuple[Array, Array]:
    """Checks both tensors and returns them as flat arrays: the truth as int64, the probabilities as floats."""
    check_tensors(
        is_floating=False, binary_ground_truth=binary_ground_truth, prediction_probabilities=prediction_probabilities
    )
    if prediction_probabilities.is_complex():
        described = describe_tensor("prediction_probabilities", prediction_probabilities)
        raise TypeError(f"{described} has to have a real dtype.")
    _check_labels(binary_ground_truth)
    truth = binary_ground_truth.detach().cpu().flatten()
    probabilities = prediction_probabilities.detach().cpu().flatten()
    # Floating-point dtypes below 32 bits have no counterpart in NumPy, or few operations.
    truth = truth.float() if truth.is_floating_point() and truth.itemsize < 4 else truth
    is_precise = probabilities.is_floating_point() and probabilities.itemsize >= 4
    probabilities = probabilities if is_precise else probabilities.float()
    check_finite("prediction_probabilities", prediction_probabilities)
    _check_values(binary_ground_truth, truth, prediction_probabilities, probabilities)
    return (truth == 1).to(torch.int64).numpy(), probabilities.numpy()


def _check_labels(binary_ground_truth: Tensor) -> None:
    if binary_ground_truth.dim() == 2 and binary_ground_truth.shape[1] > 1:
        described = describe_tensor("binary_ground_truth", binary_ground_truth)
        raise ValueError(
            f"{described} has {binary_ground_truth.shape[1]} labels for each of {len(binary_ground_truth)} samples, "
            "but these metrics need one label for each prediction: a shape of (samples,), (samples, 1), or at least "
            "three dimensions, such as images. To fix, flatten both tensors in forward_pass if each value is a "
            "prediction of its own; for the values of several labels, use MultilabelClassificationMetrics."
        )


def _check_values(
    binary_ground_truth: Tensor, truth: Tensor, prediction_probabilities: Tensor, probabilities: Tensor
) -> None:
    neither = (truth != 0) & (truth != 1)
    if neither.any():
        described = describe_tensor("binary_ground_truth", binary_ground_truth)
        raise ValueError(
            f"{described} has to contain only zeros and ones, but {int(neither.sum())} of its {truth.numel()} values "
            f"are neither, for example {truth[neither][:3].tolist()}."
        )
    lowest, highest = probabilities.min().item(), probabilities.max().item()
    if lowest < 0 or highest > 1:
        described = describe_tensor("prediction_probabilities", prediction_probabilities)
        raise ValueError(
            f"{described} has to contain values from 0 to 1, but they range from {lowest:g} to {highest:g}. To fix, "
            "return torch.sigmoid of them in forward_pass if they are logits."
        )
