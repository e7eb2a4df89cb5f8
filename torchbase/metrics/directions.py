"""Decorators that declare whether a higher or a lower value of a metric is better.

`EarlyStopping`, `BestValidation` and `LearningRateSchedule` read the declaration of a metric that they monitor.
"""

from collections.abc import Callable
from typing import Any, Literal, TypeVar

Mode = Literal["min", "max"]
Method = TypeVar("Method", bound=Callable[..., Any])

_MODE = "torchbase_mode"


def higher_is_better(method: Method) -> Method:
    """Declares that a higher value of a metric is better.

    Args:
        method: The metric.

    Returns:
        The same method.
    """
    setattr(method, _MODE, "max")
    return method


def lower_is_better(method: Method) -> Method:
    """Declares that a lower value of a metric is better.

    Args:
        method: The metric.

    Returns:
        The same method.
    """
    setattr(method, _MODE, "min")
    return method


def mode_of(function: Callable[..., Any]) -> Mode | None:
    """Returns the declared direction of a metric.

    Args:
        function: The metric, or a function that `functools.wraps` it.

    Returns:
        ``"max"`` if higher is better, ``"min"`` if lower is better, None if nothing is declared.
    """
    mode: Mode | None = getattr(function, _MODE, None)
    return mode
