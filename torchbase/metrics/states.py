"""Functions that the metrics and their states share."""

import warnings
from typing import Any

import torch
from torch import Tensor

from torchbase.metrics.epoch_kinds import EpochState


def compute_mini_batch(state: EpochState, *arguments: Any, **outputs: Any) -> float:
    """Computes the value of a single mini-batch.

    Args:
        state: A new state.
        *arguments: The prepared arguments, if the metric is declared with ``prepare``.
        **outputs: The arguments of the metric, if it is declared without ``prepare``.

    Returns:
        The value of the state after this mini-batch.
    """
    state.update(*arguments, **outputs)
    return state.compute()


def nan_with_warning(metric: str, reason: str) -> float:
    """Returns NaN and issues a UserWarning with the reason.

    Args:
        metric: The metric and its class.
        reason: Why the value is undefined.
    """
    warnings.warn(f"{metric} is NaN: {reason}.", UserWarning, stacklevel=3)
    return float("nan")


def to_float64(tensor: Tensor) -> Tensor:
    """Returns the values detached and in float64. They move to the CPU if their device doesn't support float64.

    Args:
        tensor: Values of any real dtype.
    """
    tensor = tensor.detach()
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).to(torch.float64)


def check_number(name: str, number: object, expected: str) -> float:
    """Checks an option of a metrics class that is a number.

    Args:
        name: The name of the option.
        number: The value of the option.
        expected: A description of valid values, for the message.

    Returns:
        The number.

    Raises:
        TypeError: The value is not a number.
    """
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise TypeError(f"{name} has to be {expected}, but got {number!r}.")
    return float(number)


def check_count(name: str, count: object, lowest: int) -> int:
    """Checks an option of a metrics class that is an integer.

    Args:
        name: The name of the option.
        count: The value of the option.
        lowest: The lowest valid value.

    Returns:
        The number.

    Raises:
        TypeError: The value is not an integer.
        ValueError: The value is too low.
    """
    if isinstance(count, bool) or not isinstance(count, int):
        raise TypeError(f"{name} has to be an integer of at least {lowest}, but got {count!r}.")
    if count < lowest:
        raise ValueError(f"{name} has to be at least {lowest}, but got {count!r}.")
    return count
