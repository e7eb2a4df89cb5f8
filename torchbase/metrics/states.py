"""What the states of metrics over an epoch have in common."""

import warnings
from typing import Any

import torch
from torch import Tensor

from torchbase.metrics.epoch_kinds import EpochState


def value_at_once(state: EpochState, *arguments: Any, **outputs: Any) -> float:
    """Gives the value of a single mini-batch.

    Args:
        state: A new state.
        *arguments: What was prepared of the metric's arguments, where the metric is declared so.
        **outputs: The arguments of the metric.

    Returns:
        What the state computes after this mini-batch.
    """
    state.update(*arguments, **outputs)
    return state.compute()


def give_undefined(metric: str, reason: str) -> float:
    """Returns NaN, with a UserWarning that says why.

    Args:
        metric: The metric and its class.
        reason: What is missing.
    """
    warnings.warn(f"{metric} is NaN: {reason}.", UserWarning, stacklevel=3)
    return float("nan")


def to_float64(tensor: Tensor) -> Tensor:
    """Returns the values detached and in float64, on their device where it has that type.

    Args:
        tensor: Values of any real dtype.
    """
    tensor = tensor.detach()
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).to(torch.float64)


def check_number(name: str, number: object, what: str) -> float:
    """Checks an option of a metrics class.

    Args:
        name: Its name.
        number: What was given.
        what: What it has to be.

    Returns:
        The number.

    Raises:
        TypeError: It is no number.
    """
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise TypeError(f"{name} has to be {what}, but {number!r} came.")
    return float(number)


def check_count(name: str, count: object, lowest: int) -> int:
    """Checks an option of a metrics class that is a whole number.

    Args:
        name: Its name.
        count: What was given.
        lowest: The least that it may be.

    Returns:
        The number.

    Raises:
        TypeError: It is no whole number.
        ValueError: It is too low.
    """
    if isinstance(count, bool) or not isinstance(count, int):
        raise TypeError(f"{name} has to be a whole number of at least {lowest}, but {count!r} came.")
    if count < lowest:
        raise ValueError(f"{name} has to be at least {lowest}, but {count!r} came.")
    return count
