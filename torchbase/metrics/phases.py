"""Declares in which phases a metric is computed."""

from collections.abc import Callable
from typing import Any

_VALIDATION_ONLY = "torchbase_validation_only"


def declare_validation_only(functional: Callable[..., Any]) -> None:
    """Declares that a metric is computed in validation, and not in training.

    Args:
        functional: The function of the metric.
    """
    setattr(functional, _VALIDATION_ONLY, True)


def is_validation_only(functional: Callable[..., Any]) -> bool:
    """Returns whether a metric is computed in validation only.

    Args:
        functional: The function of the metric.
    """
    return getattr(functional, _VALIDATION_ONLY, False) is True
