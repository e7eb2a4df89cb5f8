"""Areas under the receiver operating characteristic, for many classes at once."""

from typing import Any

import numpy as np

Numbers = np.ndarray[Any, np.dtype[Any]]


def areas_one_vs_rest(truth: Numbers, probabilities: Numbers, own: Numbers) -> Numbers:
    """Gives the area of each class against all others together.

    The area is the share of pairs, of a decision of the class and one of another, in which that of the class has the
    higher probability; of equal ones half the pairs count. They are counted by the places that the decisions of the
    class have among all, in the order of the probability.

    Args:
        truth: The classes, shape (decisions,).
        probabilities: Shape (decisions, classes).
        own: How many decisions each class has, at least one, shape (classes,).

    Returns:
        The areas, shape (classes,), in float64.

    Source: https://en.wikipedia.org/wiki/Mann%E2%80%93Whitney_U_test
    """
    in_order = np.sort(probabilities.T, axis=1)
    by_class = np.argsort(truth, kind="stable")
    of_own_class = np.split(probabilities[by_class, truth[by_class]], np.cumsum(own)[:-1])
    ranks = np.array([_sum_of_ranks(every, few) for every, few in zip(in_order, of_own_class, strict=True)])
    areas: Numbers = (ranks - own * (own + 1) / 2) / (own * (len(truth) - own))
    return areas


def _sum_of_ranks(in_order: Numbers, values: Numbers) -> float:
    # From 1; equal values share the mean of their places.
    lower, not_higher = in_order.searchsorted(values, "left"), in_order.searchsorted(values, "right")
    return float((lower + not_higher + 1).sum()) / 2
