"""Areas under the receiver operating characteristic curve, for many classes at once."""

from typing import Any

import numpy as np

Numbers = np.ndarray[Any, np.dtype[Any]]


def areas_one_vs_rest(truth: Numbers, probabilities: Numbers, class_sizes: Numbers) -> Numbers:
    """Computes the area under the curve of each class against all other classes.

    The area is the Mann-Whitney U statistic, divided by its maximum: the share of pairs of a sample of the class and
    a sample of another class in which the sample of the class has the higher probability. A pair with equal
    probabilities counts half. The statistic is computed from the ranks of the samples.

    Args:
        truth: The class of each sample, shape (samples,).
        probabilities: The predicted probabilities, shape (samples, classes).
        class_sizes: The number of samples of each class, at least 1, shape (classes,).

    Returns:
        The areas in float64, shape (classes,).

    Source: https://en.wikipedia.org/wiki/Mann%E2%80%93Whitney_U_test
    """
    in_order = np.sort(probabilities.T, axis=1)
    by_class = np.argsort(truth, kind="stable")
    of_class = np.split(probabilities[by_class, truth[by_class]], np.cumsum(class_sizes)[:-1])
    ranks = np.array([_sum_of_ranks(all_values, values) for all_values, values in zip(in_order, of_class, strict=True)])
    areas: Numbers = (ranks - class_sizes * (class_sizes + 1) / 2) / (class_sizes * (len(truth) - class_sizes))
    return areas


def _sum_of_ranks(in_order: Numbers, values: Numbers) -> float:
    # Ranks begin at 1; equal values share their mean rank.
    lower, not_higher = in_order.searchsorted(values, "left"), in_order.searchsorted(values, "right")
    return float((lower + not_higher + 1).sum()) / 2
