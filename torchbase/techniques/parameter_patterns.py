"""Choosing parameters of a network by patterns of their names."""

from fnmatch import fnmatchcase

import torch

from torchbase.errors import HookError, did_you_mean


def parameters_that_fit(network: torch.nn.Module, pattern: str) -> dict[str, torch.nn.Parameter]:
    """Gives the parameters whose names fit a pattern.

    Args:
        network: The network.
        pattern: As for file names: ``*`` stands for anything, so ``encoder.*`` for all parameters of the encoder.

    Returns:
        The parameters by name, in the network's order.

    Raises:
        HookError: If none fits.
    """
    named = dict(network.named_parameters())
    fitting = {name: one for name, one in named.items() if fnmatchcase(name, pattern)}
    if not fitting:
        raise HookError(
            f"No parameter of {type(network).__name__} fits the pattern '{pattern}'."
            f"{did_you_mean(pattern, named) or _list(named)} To fix, give a name of network.named_parameters(), or a "
            "pattern such as 'encoder.*'."
        )
    return fitting


def _list(named: dict[str, torch.nn.Parameter]) -> str:
    names = list(named)
    return f" There are: {', '.join(names[:10]) or 'none'}{', …' if len(names) > 10 else ''}."


def check_is_optimized(parameters: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    """Refuses parameters that are to learn and that the optimizer doesn't hold.

    Args:
        parameters: The parameters by name.
        optimizer: The optimizer.

    Raises:
        HookError: If it doesn't hold one of them.
    """
    held = {id(one) for group in optimizer.param_groups for one in group["params"]}
    for name, parameter in parameters.items():
        if id(parameter) not in held:
            raise HookError(
                f"The parameter '{name}' is to be unfrozen, and the optimizer doesn't hold it, so it can't learn. To "
                "fix, give the optimizer all parameters, or freeze by a hook, Freeze('…'), not in init_network: the "
                "default optimizer leaves out what is frozen there."
            )
