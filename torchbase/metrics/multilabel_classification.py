"""Metrics of multilabel classification, as scikit-learn defines them."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Unpack

import numpy as np
from torch import Tensor

from torchbase.errors import MetricsError
from torchbase.metrics import label_counts
from torchbase.metrics.base import BaseMetricsClass, CommonOptions
from torchbase.metrics.directions import higher_is_better, lower_is_better
from torchbase.metrics.epoch_kinds import accumulated
from torchbase.metrics.label_counts import ComputePerLabel, LabelCounts, Values, check_label_count, prepare_labels
from torchbase.metrics.states import check_number, nan_with_warning

Array = np.ndarray[Any, Any]


def _new_counts(metrics: "MultilabelClassificationMetrics") -> LabelCounts:
    return LabelCounts(metrics._threshold, metrics._number_of_labels)


class MultilabelClassificationMetrics(BaseMetricsClass):
    """Metrics that compare predicted probabilities with a ground truth of several labels per sample.

    Each metric takes ``label_ground_truth`` (zeros and ones of any real dtype) and ``label_probabilities`` (values from
    0 to 1 of a floating-point dtype). Both have the shape (samples, labels), with at least two labels, on any device. A
    probability greater than or equal to the threshold predicts the label. Each metric raises a TypeError for arguments
    of another type or dtype, and a ValueError for empty tensors, other shapes and values out of range.

    Micro averages count all labels together. Macro averages are the unweighted mean over all labels. A division by zero
    yields 0, for example the precision of a label that is never predicted.

    With ``label_names``, there are also metrics of each label: ``precision_NAME``, ``recall_NAME``, ``f1_score_NAME``,
    ``average_precision_NAME`` and ``roc_auc_NAME``.

    Over an epoch, the areas under curves (``average_precision_…`` and ``roc_auc_…``) store all probabilities on the
    host. The other metrics store counts for each label.

    Source: https://scikit-learn.org/stable/modules/model_evaluation.html#classification-metrics

    Args:
        keyword_maps: Maps keys that ``forward_pass`` returns to arguments of the metrics.
        threshold: The lowest probability that predicts a label, from 0 to 1.
        label_names: The names of all labels, of letters, digits and underscores; None for no metrics of each label.
        **options: ``prefix`` and ``validation_only``; see `BaseMetricsClass`.

    Raises:
        TypeError: ``threshold`` is not a number, ``label_names`` are not strings, or ``keyword_maps`` is not a mapping
            of strings to strings.
        ValueError: ``threshold`` is not between 0 and 1.
        MetricsError: A name of a label is used twice, has other characters, or makes the name of another metric; or
            ``keyword_maps`` doesn't fit the metrics.
    """

    def __init__(
        self,
        keyword_maps: Mapping[str, str] | None = None,
        threshold: float = 0.5,
        label_names: Sequence[str] | None = None,
        **options: Unpack[CommonOptions],
    ) -> None:
        self._threshold = check_number("threshold", threshold, "a number from 0 to 1")
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold has to be a probability from 0 to 1, but got {threshold!r}.")
        self._number_of_labels = None if label_names is None else len(label_names)
        if label_names is not None:
            _check_names(label_names)
            # The base class finds metrics in the class of an object, and these metrics depend on the names.
            base = type(self)
            methods = dict(_methods_of_labels(label_names))
            if taken := sorted(name for name in methods if hasattr(base, name)):
                raise MetricsError(
                    f"The names of labels make a metric {taken[0]!r}, which {base.__name__} already has. To fix, use "
                    "another name for the label."
                )
            self.__class__ = type(base.__name__, (base,), {"__doc__": base.__doc__, **methods})
        super().__init__(keyword_maps, **options)

    @higher_is_better
    @accumulated(_new_counts, LabelCounts.compute, prepare_labels)
    def subset_accuracy(self, *, label_ground_truth: Tensor, label_probabilities: Tensor) -> float:
        """Returns the share of samples whose labels are all predicted right, from 0 to 1; higher is better."""
        return self._count(label_ground_truth, label_probabilities).compute()

    @lower_is_better
    @accumulated(_new_counts, label_counts.hamming_loss, prepare_labels)
    def hamming_loss(self, *, label_ground_truth: Tensor, label_probabilities: Tensor) -> float:
        """Returns the share of labels that are predicted wrong, from 0 to 1; lower is better."""
        return label_counts.hamming_loss(self._count(label_ground_truth, label_probabilities))

    @higher_is_better
    @accumulated(_new_counts, label_counts.precision_micro, prepare_labels)
    def precision_micro(self, *, label_ground_truth: Tensor, label_probabilities: Tensor) -> float:
        """Returns the precision, from 0 to 1, counted over all labels together."""
        return label_counts.precision_micro(self._count(label_ground_truth, label_probabilities))

    @higher_is_better
    @accumulated(_new_counts, lambda counts: float(label_counts.precisions(counts).mean()), prepare_labels)
    def precision_macro(self, *, label_ground_truth: Tensor, label_probabilities: Tensor) -> float:
        """Returns the mean of the precisions of the labels, from 0 to 1."""
        return float(label_counts.precisions(self._count(label_ground_truth, label_probabilities)).mean())

    @higher_is_better
    @accumulated(_new_counts, label_counts.recall_micro, prepare_labels)
    def recall_micro(self, *, label_ground_truth: Tensor, label_probabilities: Tensor) -> float:
        """Returns the recall, from 0 to 1, counted over all labels together."""
        return label_counts.recall_micro(self._count(label_ground_truth, label_probabilities))

    @higher_is_better
    @accumulated(_new_counts, lambda counts: float(label_counts.recalls(counts).mean()), prepare_labels)
    def recall_macro(self, *, label_ground_truth: Tensor, label_probabilities: Tensor) -> float:
        """Returns the mean of the recalls of the labels, from 0 to 1."""
        return float(label_counts.recalls(self._count(label_ground_truth, label_probabilities)).mean())

    @higher_is_better
    @accumulated(_new_counts, label_counts.f1_score_micro, prepare_labels)
    def f1_score_micro(self, *, label_ground_truth: Tensor, label_probabilities: Tensor) -> float:
        """Returns the harmonic mean of micro precision and micro recall, from 0 to 1."""
        return label_counts.f1_score_micro(self._count(label_ground_truth, label_probabilities))

    @higher_is_better
    @accumulated(_new_counts, lambda counts: float(label_counts.f1_scores(counts).mean()), prepare_labels)
    def f1_score_macro(self, *, label_ground_truth: Tensor, label_probabilities: Tensor) -> float:
        """Returns the mean of the F1 scores of the labels, from 0 to 1."""
        return float(label_counts.f1_scores(self._count(label_ground_truth, label_probabilities)).mean())

    @higher_is_better
    def average_precision_micro(self, *, label_ground_truth: Tensor, label_probabilities: Tensor) -> float:
        """Returns the average precision over all labels together, from 0 to 1.

        Returns NaN with a UserWarning if no sample has a label.
        """
        truth, probabilities = self._to_arrays(label_ground_truth, label_probabilities)
        return _average_precision("average_precision_micro", truth.ravel(), probabilities.ravel())

    @higher_is_better
    def average_precision_macro(self, *, label_ground_truth: Tensor, label_probabilities: Tensor) -> float:
        """Returns the mean of the average precisions of the labels, from 0 to 1.

        Returns NaN with a UserWarning if no sample has one of the labels.
        """
        truth, probabilities = self._to_arrays(label_ground_truth, label_probabilities)
        return _mean_of_areas(_average_precision, "average_precision_macro", truth, probabilities)

    @higher_is_better
    def roc_auc_micro(self, *, label_ground_truth: Tensor, label_probabilities: Tensor) -> float:
        """Returns the area under the receiver operating characteristic curve of all labels together; chance is 0.5.

        Returns NaN with a UserWarning if all labels have the same value.
        """
        truth, probabilities = self._to_arrays(label_ground_truth, label_probabilities)
        return _roc_auc("roc_auc_micro", truth.ravel(), probabilities.ravel())

    @higher_is_better
    def roc_auc_macro(self, *, label_ground_truth: Tensor, label_probabilities: Tensor) -> float:
        """Returns the mean of the areas under the curves of the labels, from 0 to 1; chance is 0.5.

        Returns NaN with a UserWarning if all samples, or none, have one of the labels.
        """
        truth, probabilities = self._to_arrays(label_ground_truth, label_probabilities)
        return _mean_of_areas(_roc_auc, "roc_auc_macro", truth, probabilities)

    def _count(self, label_ground_truth: Tensor, label_probabilities: Tensor) -> LabelCounts:
        counts = _new_counts(self)
        counts.update(prepare_labels(label_ground_truth, label_probabilities))
        return counts

    def _to_arrays(self, label_ground_truth: Tensor, label_probabilities: Tensor) -> tuple[Array, Array]:
        truth, probabilities = prepare_labels(label_ground_truth, label_probabilities)
        check_label_count(self._number_of_labels, truth.shape[1])
        return truth.cpu().numpy(), probabilities.cpu().numpy()


def _check_names(label_names: Sequence[str]) -> None:
    if isinstance(label_names, str) or not all(isinstance(name, str) for name in label_names):
        raise TypeError(f"label_names have to be a list of strings, but got {label_names!r:.80}.")
    for name in label_names:
        if not re.fullmatch(r"\w+", name):
            raise MetricsError(
                f"The name of a label is {name!r}, but it has to consist of letters, digits and underscores, since it "
                "is part of the names of metrics."
            )
    if repeated := sorted({name for name in label_names if label_names.count(name) > 1}):
        raise MetricsError(f"label_names have to be different, but contain {repeated[0]!r} more than once.")


def _methods_of_labels(label_names: Sequence[str]) -> Iterator[tuple[str, Callable[..., float]]]:
    counted = {
        "precision": label_counts.precisions,
        "recall": label_counts.recalls,
        "f1_score": label_counts.f1_scores,
    }
    areas = {"average_precision": _average_precision, "roc_auc": _roc_auc}
    for kind in (*counted, *areas):
        for index, name in enumerate(label_names):
            full = f"{kind}_{name}"
            yield full, _counted(counted[kind], index) if kind in counted else _area(areas[kind], full, index)


def _counted(compute: ComputePerLabel, index: int) -> Callable[..., float]:
    def of_label(counts: LabelCounts) -> float:
        return float(compute(counts)[index])

    @higher_is_better
    @accumulated(_new_counts, of_label, prepare_labels)
    def metric(
        self: MultilabelClassificationMetrics, *, label_ground_truth: Tensor, label_probabilities: Tensor
    ) -> float:
        return of_label(self._count(label_ground_truth, label_probabilities))

    return metric


def _area(area: Callable[[str, Array, Array], float], name: str, index: int) -> Callable[..., float]:
    @higher_is_better
    def metric(
        self: MultilabelClassificationMetrics, *, label_ground_truth: Tensor, label_probabilities: Tensor
    ) -> float:
        truth, probabilities = self._to_arrays(label_ground_truth, label_probabilities)
        return area(name, truth[:, index], probabilities[:, index])

    return metric


def _average_precision(metric: str, truth: Array, probabilities: Array, label: str = "") -> float:
    from sklearn.metrics import average_precision_score

    if not truth.any():
        return _nan(metric, f"the ground truth{label} contains no 1, but at least one is needed")
    return float(average_precision_score(truth, probabilities))


def _roc_auc(metric: str, truth: Array, probabilities: Array, label: str = "") -> float:
    from sklearn.metrics import roc_auc_score

    if truth.all() or not truth.any():
        return _nan(metric, f"the ground truth{label} contains only {int(truth[0])}, but zeros and ones are needed")
    return float(roc_auc_score(truth, probabilities))


def _mean_of_areas(area: Callable[..., float], metric: str, truth: Array, probabilities: Array) -> float:
    values: Values = np.empty(truth.shape[1])
    for index in range(truth.shape[1]):
        values[index] = area(metric, truth[:, index], probabilities[:, index], f" of label {index}")
        if np.isnan(values[index]):  # one warning is enough
            return float("nan")
    return float(values.mean())


def _nan(metric: str, reason: str) -> float:
    return nan_with_warning(f"{metric} of MultilabelClassificationMetrics", reason)
