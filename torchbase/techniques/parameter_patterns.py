"""Selects parameters of a network by patterns of their names."""

from fnmatch import fnmatchcase

import torch

from torchbase.engine.optimizer_parameters import held_parameters
from torchbase.errors import HookError, did_you_mean, list_first


def matching_parameters(network: torch.nn.Module, pattern: str) -> dict[str, torch.nn.Parameter]:
    """Returns the parameters whose names match a pattern.

    Args:
        network: The network.
        pattern: A pattern as for file names: ``*`` matches anything, so ``encoder.*`` matches all parameters of the
            encoder.

    Returns:
        The parameters by name, in the order of the network.

    Raises:
        HookError: If no parameter matches.
    """
    named = dict(network.named_parameters())
    matching = {name: parameter for name, parameter in named.items() if fnmatchcase(name, pattern)}
    if not matching:
        names = did_you_mean(pattern, named) or f" Available: {list_first(named, 10) or 'none'}."
        raise HookError(
            f"No parameter of {type(network).__name__} matches the pattern '{pattern}'.{names} To fix, pass a name of "
            "network.named_parameters(), or a pattern such as 'encoder.*'."
        )
    return matching


def check_is_optimized(parameters: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    """Checks that the optimizer holds the parameters.

    Args:
        parameters: The parameters by name.
        optimizer: The optimizer.

    Raises:
        HookError: If the optimizer lacks a parameter.
    """
    held = held_parameters(optimizer)
    for name, parameter in parameters.items():
        if id(parameter) not in held:
            raise HookError(
                f"The parameter '{name}' can't be unfrozen, since the optimizer doesn't contain it. "
                "To fix, pass all parameters to the optimizer, or freeze with the hook Freeze('…') instead of in "
                "init_network: the default optimizer excludes parameters that are frozen there."
            )
