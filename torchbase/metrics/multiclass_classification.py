"""Metrics of the classification into several classes, as scikit-learn defines them."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from torchbase.metrics import class_counts
from torchbase.metrics.areas import areas_one_vs_rest
from torchbase.metrics.base import BaseMetricsClass
from torchbase.metrics.class_counts import ClassCounts, LogLoss, TopHits, prepare_classes, probabilities_of
from torchbase.metrics.confusion_figure import draw_confusion_matrix
from torchbase.metrics.epoch_kinds import accumulated, figure_over_samples
from torchbase.metrics.states import check_count, give_undefined, value_at_once

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _new_counts(metrics: object) -> ClassCounts:
    return ClassCounts()


class MulticlassClassificationMetrics(BaseMetricsClass):
    """Compares scores of classes with the classes of a ground truth, of which each decision has one.

    Each metric takes ``class_ground_truth`` (of an integer dtype, from 0, of any shape, as (samples,)) and
    ``class_scores`` (of a floating-point dtype, of the same shape and one dimension more, the last, with a finite
    score for each class), on any device. The class with the highest score is predicted, the first of equal ones. Each
    metric raises a TypeError for what is no such tensor, and a ValueError for empty tensors, shapes that don't fit
    and values out of range.

    Most metrics only compare the scores, so that logits will do as well as probabilities. ``log_loss`` and
    ``roc_auc_one_vs_rest`` need probabilities, from 0 to 1 and with a sum of 1. With ``scores_are_logits=True`` they
    take the softmax first.

    Micro averages count the decisions of all classes together, so that micro precision, recall and F1 score all equal
    the accuracy. Macro averages are the mean of the classes' own values, taken over the classes that occur in the
    ground truth or the predictions, as by default in scikit-learn. A quotient with nothing to count below it, as the
    precision of a class that is never predicted, is 0.

    Over an epoch ``roc_auc_one_vs_rest`` and ``confusion_matrix`` keep all scores on the host; the others keep how
    often each pair of classes occurred, or a sum.

    Source: https://scikit-learn.org/stable/modules/model_evaluation.html#classification-metrics

    Args:
        keyword_maps: From keys of what ``forward_pass`` returns to names of the metrics' arguments.
        top_k: Among how many of the highest scores top_k_accuracy looks for the class; below the number of classes.
        scores_are_logits: Whether ``class_scores`` are logits, and no probabilities.
        class_names: The names of all classes in the figure; None for their numbers.
        normalize_confusion_rows: Whether a row of the figure holds shares of its class, in place of counts.

    Raises:
        TypeError: ``top_k`` is no whole number, ``class_names`` are no strings, or ``keyword_maps`` no mapping of
            strings to strings.
        ValueError: ``top_k`` is below 1.
        MetricsError: ``keyword_maps`` don't fit the metrics.
    """

    def __init__(
        self,
        keyword_maps: Mapping[str, str] | None = None,
        top_k: int = 5,
        scores_are_logits: bool = False,
        class_names: Sequence[str] | None = None,
        normalize_confusion_rows: bool = False,
    ) -> None:
        super().__init__(keyword_maps)
        self._top_k = check_count("top_k", top_k, lowest=1)
        self._scores_are_logits = scores_are_logits
        if isinstance(class_names, str) or not all(isinstance(name, str) for name in class_names or ()):
            raise TypeError(f"class_names have to be a list of strings, but {class_names!r:.80} came.")
        self._class_names = None if class_names is None else tuple(class_names)
        self._normalize_confusion_rows = normalize_confusion_rows

    @accumulated(_new_counts, class_counts.accuracy, prepare_classes)
    def accuracy(self, *, class_ground_truth: Tensor, class_scores: Tensor) -> float:
        """Return the share of decisions that are right, from 0 to 1; more is better."""
        return _count_at_once(class_counts.accuracy, class_ground_truth, class_scores)

    @accumulated(lambda metrics: TopHits(metrics._top_k), prepare=prepare_classes)
    def top_k_accuracy(self, *, class_ground_truth: Tensor, class_scores: Tensor) -> float:
        """Return the share of decisions whose class has one of the top_k highest scores, from 0 to 1; more is better.

        Of equal scores that of the later class counts as the higher one, as in scikit-learn. Raises a ValueError if
        there are no more classes than top_k.
        """
        return value_at_once(TopHits(self._top_k), prepare_classes(class_ground_truth, class_scores))

    @accumulated(_new_counts, class_counts.balanced_accuracy, prepare_classes)
    def balanced_accuracy(self, *, class_ground_truth: Tensor, class_scores: Tensor) -> float:
        """Return the mean of the recalls of the classes that the ground truth holds, from 0 to 1; more is better."""
        return _count_at_once(class_counts.balanced_accuracy, class_ground_truth, class_scores)

    @accumulated(_new_counts, class_counts.accuracy, prepare_classes)
    def precision_micro(self, *, class_ground_truth: Tensor, class_scores: Tensor) -> float:
        """Return the share of the predictions that are right, from 0 to 1, all classes counted together."""
        return _count_at_once(class_counts.accuracy, class_ground_truth, class_scores)

    @accumulated(_new_counts, class_counts.precision_macro, prepare_classes)
    def precision_macro(self, *, class_ground_truth: Tensor, class_scores: Tensor) -> float:
        """Return the mean over the classes of the share of its predictions that are right, from 0 to 1."""
        return _count_at_once(class_counts.precision_macro, class_ground_truth, class_scores)

    @accumulated(_new_counts, class_counts.accuracy, prepare_classes)
    def recall_micro(self, *, class_ground_truth: Tensor, class_scores: Tensor) -> float:
        """Return the share of the ground truth that is found, from 0 to 1, all classes counted together."""
        return _count_at_once(class_counts.accuracy, class_ground_truth, class_scores)

    @accumulated(_new_counts, class_counts.recall_macro, prepare_classes)
    def recall_macro(self, *, class_ground_truth: Tensor, class_scores: Tensor) -> float:
        """Return the mean over the classes of the share of its ground truth that is found, from 0 to 1.

        A class that is predicted, but not in the ground truth, counts as 0; balanced_accuracy leaves it out.
        """
        return _count_at_once(class_counts.recall_macro, class_ground_truth, class_scores)

    @accumulated(_new_counts, class_counts.accuracy, prepare_classes)
    def f1_score_micro(self, *, class_ground_truth: Tensor, class_scores: Tensor) -> float:
        """Return the harmonic mean of micro precision and micro recall, from 0 to 1."""
        return _count_at_once(class_counts.accuracy, class_ground_truth, class_scores)

    @accumulated(_new_counts, class_counts.f1_score_macro, prepare_classes)
    def f1_score_macro(self, *, class_ground_truth: Tensor, class_scores: Tensor) -> float:
        """Return the mean over the classes of the harmonic mean of precision and recall, from 0 to 1."""
        return _count_at_once(class_counts.f1_score_macro, class_ground_truth, class_scores)

    def roc_auc_one_vs_rest(self, *, class_ground_truth: Tensor, class_scores: Tensor) -> float:
        """Return the mean over the classes of the area under the receiver operating characteristic, from 0 to 1.

        Each class is compared with all others together; chance is 0.5. It needs probabilities. NaN, with a
        UserWarning, if the ground truth lacks a class. Over an epoch all scores are kept.

        Source: https://scikit-learn.org/stable/modules/generated/sklearn.metrics.roc_auc_score.html
        """
        prepared = prepare_classes(class_ground_truth, class_scores)
        probabilities = probabilities_of(prepared, self._scores_are_logits).cpu().numpy()
        truth_on_host = prepared.truth.cpu().numpy()
        own = np.bincount(truth_on_host, minlength=probabilities.shape[1])
        if not own.all():
            return give_undefined(
                "roc_auc_one_vs_rest of MulticlassClassificationMetrics",
                f"the ground truth lacks {np.sum(own == 0)} of the {len(own)} classes, as {np.argmin(own)}",
            )
        return float(np.mean(areas_one_vs_rest(truth_on_host, probabilities, own)))

    @accumulated(_new_counts, class_counts.cohen_kappa, prepare_classes)
    def cohen_kappa(self, *, class_ground_truth: Tensor, class_scores: Tensor) -> float:
        """Return Cohen's kappa, the agreement beyond chance, from -1 to 1; more is better, and chance is 0.

        NaN, with a UserWarning, if the ground truth and the predictions all hold one and the same class.

        Source: https://en.wikipedia.org/wiki/Cohen%27s_kappa
        """
        return _count_at_once(class_counts.cohen_kappa, class_ground_truth, class_scores)

    @accumulated(_new_counts, class_counts.matthews_correlation, prepare_classes)
    def matthews_correlation(self, *, class_ground_truth: Tensor, class_scores: Tensor) -> float:
        """Return Matthews' correlation coefficient, from -1 to 1; more is better, and chance is 0.

        As in scikit-learn it is 0 if the ground truth or the predictions hold one class only.

        Source: https://en.wikipedia.org/wiki/Phi_coefficient
        """
        return _count_at_once(class_counts.matthews_correlation, class_ground_truth, class_scores)

    @accumulated(lambda metrics: LogLoss(metrics._scores_are_logits), prepare=prepare_classes)
    def log_loss(self, *, class_ground_truth: Tensor, class_scores: Tensor) -> float:
        """Return the mean negative logarithm of the probability of the right class, at least 0; less is better.

        It needs probabilities, and is in nats. As in scikit-learn, probabilities are kept away from 0 and 1 by the
        precision of their dtype, but at least that of float32, so that a decision costs at most 16 in float32, and 36
        in float64 and for logits.

        Source: https://scikit-learn.org/stable/modules/model_evaluation.html#log-loss
        """
        return value_at_once(LogLoss(self._scores_are_logits), prepare_classes(class_ground_truth, class_scores))

    @figure_over_samples
    def confusion_matrix(self, *, class_ground_truth: Tensor, class_scores: Tensor) -> "Figure":
        """Return a figure of how often each class was predicted (columns) for each class of the ground truth (rows).

        It needs Matplotlib, and raises a MetricsError that says how to install it; a ValueError if there are not as
        many class_names as classes. Over an epoch all scores are kept.
        """
        truth, scores, _ = prepare_classes(class_ground_truth, class_scores)
        names = self._class_names or tuple(map(str, range(scores.shape[-1])))
        if len(names) != scores.shape[-1]:
            raise ValueError(f"There are {scores.shape[-1]} classes, but {len(names)} class_names: {names!r:.80}.")
        predictions = scores.argmax(dim=-1).cpu().numpy()
        return draw_confusion_matrix(truth.cpu().numpy(), predictions, names, self._normalize_confusion_rows)


def _count_at_once(compute: Callable[[ClassCounts], float], class_ground_truth: Tensor, class_scores: Tensor) -> float:
    counts = ClassCounts()
    counts.update(prepare_classes(class_ground_truth, class_scores))
    return compute(counts)
