"""Training and evaluation mode of the modules of a network."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch


def frozen_in_eval(network: torch.nn.Module) -> tuple[torch.nn.Module, ...]:
    """Finds what stays in evaluation mode in training: frozen modules that are in evaluation mode now.

    A module is frozen if it has parameters and none of them requires a gradient.

    Args:
        network: The network, in the modes in which it was built.

    Returns:
        The frozen modules in evaluation mode, and those of their submodules that are in evaluation mode, too.
    """
    found: dict[torch.nn.Module, None] = {}
    for module in network.modules():
        if not module.training and _is_frozen(module):
            found.update((one, None) for one in module.modules() if not one.training)
    return tuple(found)


def set_mode(network: torch.nn.Module, is_training: bool, stay_in_eval: Sequence[torch.nn.Module] = ()) -> None:
    """Switches a network to training or evaluation mode.

    Args:
        network: The network.
        is_training: Whether to switch to training mode.
        stay_in_eval: What `frozen_in_eval` returned. A module among them stays in evaluation mode as long as it is
            frozen.
    """
    network.train(is_training)
    if is_training and stay_in_eval:
        former = {id(module) for module in stay_in_eval}
        for frozen in _outermost_frozen(network, former):
            restore_modes({module: id(module) not in former for module in frozen.modules()})


def modes_of(network: torch.nn.Module) -> dict[torch.nn.Module, bool]:
    """Returns whether each module of a network is in training mode, from the outermost to the innermost."""
    return {module: module.training for module in network.modules()}


def restore_modes(modes: Mapping[torch.nn.Module, bool]) -> None:
    """Gives modules their former modes.

    It calls ``train`` of the modules, since a module may do more than set ``training`` there.

    Args:
        modes: The return value of `modes_of`.
    """
    for module, is_training in modes.items():
        if module.training != is_training:
            module.train(is_training)
    for module, is_training in modes.items():  # in case train() of a module or its parent sets another mode
        if module.training != is_training:
            module.training = is_training


@contextmanager
def modes_restored(network: torch.nn.Module) -> Iterator[None]:
    """Restores the mode of each module of a network at the end.

    Args:
        network: The network.

    Yields:
        Nothing.
    """
    modes = modes_of(network)
    try:
        yield
    finally:
        restore_modes(modes)


def _outermost_frozen(module: torch.nn.Module, former: set[int]) -> Iterator[torch.nn.Module]:
    if id(module) in former and _is_frozen(module):
        yield module
    else:
        for child in module.children():
            yield from _outermost_frozen(child, former)


def _is_frozen(module: torch.nn.Module) -> bool:
    parameters = list(module.parameters())
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)
