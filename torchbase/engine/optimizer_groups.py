"""The values of an optimizer's parameter groups: learning rates, weight decays, momenta."""

import copy
from collections.abc import Mapping
from typing import Any

import torch

GroupValues = dict[str, Any]

# Tensors, since a learning rate may be one.
_NUMBER = (int, float, complex, torch.Tensor)
_PLAIN = (*_NUMBER, str, tuple, type(None))
# A scheduler writes this when it is made.
_NOT_OF_THE_BUILD = ("params", "initial_lr")


def values_of_groups(optimizer: torch.optim.Optimizer) -> list[GroupValues]:
    """Copies the values of each parameter group, without its parameters.

    Args:
        optimizer: The optimizer.

    Returns:
        For each group, its values by name.
    """
    return [
        {name: copy.deepcopy(value) for name, value in group.items() if _is_value(name, value)}
        for group in optimizer.param_groups
    ]


def changed_values(then: Mapping[str, Any], now: Mapping[str, Any]) -> GroupValues:
    """Returns the values of a group that are others now.

    Args:
        then: The values of the group when the run that is resumed built it.
        now: Its values as this session built it.

    Returns:
        The values of now, by name. A value that only one of both has is left out.
    """
    return {name: value for name, value in now.items() if name in then and not _are_equal(then[name], value)}


def _is_value(name: str, value: object) -> bool:
    return name not in _NOT_OF_THE_BUILD and isinstance(value, _PLAIN)


def _are_equal(first: object, second: object) -> bool:
    if isinstance(first, tuple) and isinstance(second, tuple):
        return len(first) == len(second) and all(map(_are_equal, first, second))
    if isinstance(first, _NUMBER) and isinstance(second, _NUMBER):
        # As tensors: a rate may be a tensor in one of both, and on another device.
        return torch.equal(*(torch.as_tensor(one, dtype=torch.complex128, device="cpu") for one in (first, second)))
    return first == second
