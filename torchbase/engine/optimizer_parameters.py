"""Which parameters an optimizer holds, compared with those of the network."""

from collections.abc import Iterable, Iterator, Mapping

import torch

from torchbase.engine.run import Run
from torchbase.engine.training_step import network_of


def held_parameters(optimizer: torch.optim.Optimizer) -> dict[int, torch.Tensor]:
    """Returns the parameters that an optimizer holds.

    Args:
        optimizer: The optimizer. If it wraps other optimizers, as its attributes or in lists, tuples or dictionaries of
            them, their parameters count, too.

    Returns:
        The parameters by their ``id``.
    """
    return {
        id(parameter): parameter
        for one in _with_wrapped(optimizer, set())
        for group in getattr(one, "param_groups", ())  # a wrapper may have none of its own
        for parameter in group["params"]
    }


def parameters_not_held(run: Run) -> list[str]:
    """Returns the names of the network's parameters that require a gradient, and that the optimizer doesn't hold.

    Args:
        run: The run, with a network; without an optimizer nothing is missing.
    """
    if run.optimizer is None:
        return []
    held = held_parameters(run.optimizer)
    return [name for name, one in network_of(run).named_parameters() if one.requires_grad and id(one) not in held]


def _with_wrapped(optimizer: torch.optim.Optimizer, seen: set[int]) -> Iterator[torch.optim.Optimizer]:
    if id(optimizer) in seen:
        return
    seen.add(id(optimizer))
    yield optimizer
    for value in vars(optimizer).values():
        for one in _members(value):
            if isinstance(one, torch.optim.Optimizer):
                yield from _with_wrapped(one, seen)


def _members(value: object) -> Iterable[object]:
    if isinstance(value, list | tuple):
        return value
    return value.values() if isinstance(value, Mapping) else (value,)
