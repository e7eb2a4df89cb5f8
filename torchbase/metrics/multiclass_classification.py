"""Metrics of multiclass classification, as scikit-learn defines them."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Unpack

import numpy as np
from torch import Tensor

from torchbase.metrics import class_counts
from torchbase.metrics.areas import areas_one_vs_rest
from torchbase.metrics.base import BaseMetricsClass, CommonOptions
from torchbase.metrics.class_counts import ClassCounts, LogLoss, TopHits, prepare_classes, to_probabilities
from torchbase.metrics.confusion_figure import draw_confusion_matrix
from torchbase.metrics.directions import higher_is_better, lower_is_better
from torchbase.metrics.epoch_kinds import accumulated, figure_over_samples
from torchbase.metrics.states import check_count, compute_mini_batch, nan_with_warning

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _new_counts(metrics: object) -> ClassCounts:
    return ClassCounts()


class MulticlassClassificationMetrics(BaseMetricsClass):
    """Metrics that compare the scores of classes with a ground truth of one class per sample.

    Each metric takes ``class_ground_truth`` (class indices from 0 of an integer dtype, of any shape, for example
    (samples,)) and ``class_scores`` (finite scores of a floating-point dtype, of the same shape plus a last dimension
    for the classes), on any device. The class with the highest score is predicted; of equal scores, the first class.
    Each metric raises a TypeError for arguments of another type or dtype, and a ValueError for empty tensors, shapes
    that don't match and values out of range.

    Most metrics only compare scores, so the scores can be logits or probabilities. ``log_loss`` and
    ``roc_auc_one_vs_rest`` need probabilities: values from 0 to 1 that sum to 1. With ``scores_are_logits=True`` they
    apply softmax first.

    Micro averages count the samples of all classes together, so micro precision, recall and F1 score all equal the
    accuracy. Macro averages are the unweighted mean over the classes that occur in the ground truth or the predictions,
    which is the default of scikit-learn. A division by zero yields 0, for example the precision of a class that is
    never predicted.

    Over an epoch, ``roc_auc_one_vs_rest`` and ``confusion_matrix`` store all scores on the host. The other metrics
    store counts for each class, or a sum.

    Source: https://scikit-learn.org/stable/modules/model_evaluation.html#classification-metrics

    Args:
        keyword_maps: Maps keys that ``forward_pass`` returns to arguments of the metrics.
        top_k: The number of highest scores that top_k_accuracy considers; less than the number of classes.
        scores_are_logits: Whether ``class_scores`` are logits; otherwise they are probabilities.
        class_names: The names of all classes in the figure; None for class indices.
        normalize_confusion_rows: Whether a row of the figure contains shares of its class instead of counts.
        **options: ``prefix`` and ``validation_only``; see `BaseMetricsClass`.

    Raises:
        TypeError: ``top_k`` is not an integer, ``class_names`` are not strings, or ``keyword_maps`` is not a mapping
            of strings to strings.
        ValueError: ``top_k`` is less than 1.
        MetricsError: ``keyword_maps`` doesn't fit the metrics.
    """

    def __init__(
        self,
        keyword_maps: Mapping[str, str] | None = None,
        top_k: int = 5,
        scores_are_logits: bool = False,
        class_names: Sequence[str] | None = None,
        normalize_confusion_rows: bool = False,
        **options: Unpack[CommonOptions],
    ) -> None:
        super().__init__(keyword_maps, **options)
        self._top_k = check_count("top_k", top_k, lowest=1)
        self._scores_are_logits = scores_are_logits
        if isinstance(class_names, str) or not all(isinstance(name, str) for name in class_names or ()):
            raise TypeError(f"class_names have to be a list of strings, but got {class_names!r:.80}.")
        self._class_names = None if class_names is None else tuple(class_names)
        self._normalize_confusion_rows = normalize_confusion_rows

    @higher_is_better
    @accumulated(_new_counts, class_counts.accuracy, prepare_classes)
    def accuracy(self, *, class_ground_truth: Tensor, class_scores: Tensor) -> float:
        """Returns the share of correct predictions, from 0 to 1; higher is better."""
        return _compute_from_counts(class_counts.accuracy, class_ground_truth, class_scores)

    @higher_is_better
    @accumulated(lambda metrics: TopHits(metrics._top_k), prepare=prepare_classes)
    def top_k_accuracy(self, *, class_ground_truth: Tensor, class_scores: Tensor) -> float:
        """Returns the share of samples whose class has one of the top_k highest scores, from 0 to 1; higher is better.

        As in scikit-learn, the later class ranks higher among equal scores.

        Raises:
            ValueError: There are at most top_k classes.
        """
        return compute_mini_batch(TopHits(self._top_k), prepare_classes(class_ground_truth, class_scores))

    @higher_is_better
    @accumulated(_new_counts, class_counts.balanced_accuracy, prepare_classes)
    def balanced_accuracy(self, *, class_ground_truth: Tensor, class_scores: Tensor) -> float:
        """Returns the mean of the recalls of the classes in the ground truth, from 0 to 1; higher is better."""
        return _compute_from_counts(class_counts.balanced_accuracy, class_ground_truth, class_scores)

    @higher_is_better
    @accumulated(_new_counts, class_counts.accuracy, prepare_classes)
    def precision_micro(self, *, class_ground_truth: Tensor, class_scores: Tensor) -> float:
        """Returns the precision, from 0 to 1, counted over all classes together."""
        return _compute_from_counts(class_counts.accuracy, class_ground_truth, class_scores)

    @higher_is_better
    @accumulated(_new_counts, class_counts.precision_macro, prepare_classes)
    def precision_macro(self, *, class_ground_truth: Tensor, class_scores: Tensor) -> float:
        """Returns the mean of the precisions of the classes, from 0 to 1."""
        return _compute_from_counts(class_counts.precision_macro, class_ground_truth, class_scores)

    @higher_is_better
    @accumulated(_new_counts, class_counts.accuracy, prepare_classes)
    def recall_micro(self, *, class_ground_truth: Tensor, class_scores: Tensor) -> float:
        """Returns the recall, from 0 to 1, counted over all classes together."""
        return _compute_from_counts(class_counts.accuracy, class_ground_truth, class_scores)

    @higher_is_better
    @accumulated(_new_counts, class_counts.recall_macro, prepare_classes)
    def recall_macro(self, *, class_ground_truth: Tensor, class_scores: Tensor) -> float:
        """Returns the mean of the recalls of the classes, from 0 to 1.

        A class that is predicted but not in the ground truth has a recall of 0; balanced_accuracy excludes it.
        """
        return _compute_from_counts(class_counts.recall_macro, class_ground_truth, class_scores)

    @higher_is_better
    @accumulated(_new_counts, class_counts.accuracy, prepare_classes)
    def f1_score_micro(self, *, class_ground_truth: Tensor, class_scores: Tensor) -> float:
        """Returns the harmonic mean of micro precision and micro recall, from 0 to 1."""
        return _compute_from_counts(class_counts.accuracy, class_ground_truth, class_scores)

    @higher_is_better
    @accumulated(_new_counts, class_counts.f1_score_macro, prepare_classes)
    def f1_score_macro(self, *, class_ground_truth: Tensor, class_scores: Tensor) -> float:
        """Returns the mean of the F1 scores of the classes, from 0 to 1."""
        return _compute_from_counts(class_counts.f1_score_macro, class_ground_truth, class_scores)

    @higher_is_better
    def roc_auc_one_vs_rest(self, *, class_ground_truth: Tensor, class_scores: Tensor) -> float:
        """Returns the mean over the classes of the area under the receiver operating characteristic curve.

        The value is from 0 to 1; chance is 0.5. Each class is compared with all other classes together. The scores
        have to be probabilities, or logits with ``scores_are_logits=True``. Returns NaN with a UserWarning if a class
        is not in the ground truth. Over an epoch, all scores are stored.

        Source: https://scikit-learn.org/stable/modules/generated/sklearn.metrics.roc_auc_score.html
        """
        prepared = prepare_classes(class_ground_truth, class_scores)
        probabilities = to_probabilities(prepared, self._scores_are_logits).cpu().numpy()
        truth_on_host = prepared.truth.cpu().numpy()
        class_sizes = np.bincount(truth_on_host, minlength=probabilities.shape[1])
        if not class_sizes.all():
            return nan_with_warning(
                "roc_auc_one_vs_rest of MulticlassClassificationMetrics",
                f"{np.sum(class_sizes == 0)} of the {len(class_sizes)} classes are not in the ground truth, for "
                f"example class {np.argmin(class_sizes)}",
            )
        return float(np.mean(areas_one_vs_rest(truth_on_host, probabilities, class_sizes)))

    @higher_is_better
    @accumulated(_new_counts, class_counts.cohen_kappa, prepare_classes)
    def cohen_kappa(self, *, class_ground_truth: Tensor, class_scores: Tensor) -> float:
        """Returns Cohen's kappa, the agreement beyond chance, from -1 to 1; higher is better, and chance is 0.

        Returns NaN with a UserWarning if the ground truth and the predictions contain the same single class.

        Source: https://en.wikipedia.org/wiki/Cohen%27s_kappa
        """
        return _compute_from_counts(class_counts.cohen_kappa, class_ground_truth, class_scores)

    @higher_is_better
    @accumulated(_new_counts, class_counts.matthews_correlation, prepare_classes)
    def matthews_correlation(self, *, class_ground_truth: Tensor, class_scores: Tensor) -> float:
        """Returns the Matthews correlation coefficient, from -1 to 1; higher is better, and chance is 0.

        As in scikit-learn, it is 0 if the ground truth or the predictions contain one class only.

        Source: https://en.wikipedia.org/wiki/Phi_coefficient
        """
        return _compute_from_counts(class_counts.matthews_correlation, class_ground_truth, class_scores)

    @lower_is_better
    @accumulated(lambda metrics: LogLoss(metrics._scores_are_logits), prepare=prepare_classes)
    def log_loss(self, *, class_ground_truth: Tensor, class_scores: Tensor) -> float:
        """Returns the mean negative logarithm of the probability of the correct class, at least 0; lower is better.

        The scores have to be probabilities, or logits with ``scores_are_logits=True``. The unit is nats. As in
        scikit-learn, probabilities are clipped to ``[eps, 1 - eps]``, with the ``eps`` of their dtype; dtypes below 32
        bits use that of float32. So the loss of a sample is at most 16 in float32, and 36 in float64 and for logits.

        Source: https://scikit-learn.org/stable/modules/model_evaluation.html#log-loss
        """
        return compute_mini_batch(LogLoss(self._scores_are_logits), prepare_classes(class_ground_truth, class_scores))

    @figure_over_samples
    def confusion_matrix(self, *, class_ground_truth: Tensor, class_scores: Tensor) -> "Figure":
        """Returns a figure of the confusion matrix: rows are classes of the ground truth, columns predicted classes.

        Over an epoch, all scores are stored.

        Raises:
            MetricsError: Matplotlib is not installed.
            ValueError: The number of class_names differs from the number of classes.
        """
        truth, scores, _ = prepare_classes(class_ground_truth, class_scores)
        names = self._class_names or tuple(map(str, range(scores.shape[-1])))
        if len(names) != scores.shape[-1]:
            raise ValueError(
                f"class_names has to contain a name for each of the {scores.shape[-1]} classes, but got {len(names)}: "
                f"{names!r:.80}."
            )
        predictions = scores.argmax(dim=-1).cpu().numpy()
        return draw_confusion_matrix(truth.cpu().numpy(), predictions, names, self._normalize_confusion_rows)


def _compute_from_counts(
    compute: Callable[[ClassCounts], float], class_ground_truth: Tensor, class_scores: Tensor
) -> float:
    counts = ClassCounts()
    counts.update(prepare_classes(class_ground_truth, class_scores))
    return compute(counts)
