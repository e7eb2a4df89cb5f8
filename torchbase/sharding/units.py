"""How a network is cut into units, whose parameters are gathered one after the other."""

from collections import defaultdict
from collections.abc import Iterator

import torch

_SMALLEST_SHARE = 0.05


def repeated_blocks(network: torch.nn.Module) -> list[torch.nn.Module]:
    """Returns the largest blocks of a network that occur several times, such as the layers of a transformer.

    Modules are blocks if they are siblings of one class, that is, children of one module, or of its lists of modules,
    and hold together at least 5% of the parameters. Blocks within blocks aren't returned, nor are blocks that share
    a parameter with the rest of the network, or that occur at several places of it.

    Args:
        network: The network.

    Returns:
        The blocks, in the order of the network.
    """
    smallest = _SMALLEST_SHARE * sum(one.numel() for one in network.parameters())
    places = _number_of_places(network)
    found: dict[torch.nn.Module, None] = {}
    waiting = [network]
    while waiting:
        siblings: dict[type, list[torch.nn.Module]] = defaultdict(list)
        for child in _children(waiting.pop(0)):
            siblings[type(child)].append(child)
        for group in siblings.values():
            size = sum(one.numel() for module in group for one in module.parameters())
            if len(group) > 1 and size and size >= smallest:
                found.update((one, None) for one in group if _is_by_itself(one, places))
            else:
                waiting.extend(group)
    return [module for module in network.modules() if module in found]


def _children(module: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """Yields the children of a module; those of lists of modules in their place."""
    for child in module.children():
        if isinstance(child, torch.nn.ModuleList | torch.nn.ModuleDict):
            yield from _children(child)
        elif not isinstance(child, torch.nn.ParameterList | torch.nn.ParameterDict):
            yield child


def _number_of_places(network: torch.nn.Module) -> dict[int, int]:
    """Returns in how many places of the network each module and parameter is, by its ``id``."""
    places: dict[int, int] = defaultdict(int)
    for _, module in network.named_modules(remove_duplicate=False):
        places[id(module)] += 1
    for _, parameter in network.named_parameters(remove_duplicate=False):
        places[id(parameter)] += 1
    return places


def _is_by_itself(module: torch.nn.Module, places: dict[int, int]) -> bool:
    within = _number_of_places(module)
    return all(places[one] == number for one, number in within.items())
