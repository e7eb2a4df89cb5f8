"""Builds a network without memory for its values, where the values come from another process."""

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

logger = logging.getLogger("torchbase")


def build_without_memory(init: Callable[[], torch.nn.Module]) -> torch.nn.Module:
    """Builds a network on the meta device. If that isn't possible, builds it with memory, and says so.

    Args:
        init: Builds the network.

    Returns:
        The network. Its parameters and buffers have no values, or any.
    """
    try:
        with torch.device("meta"):
            network = init()
        reason = _values_that_are_missing(network)
    except Exception as error:  # what init_network does is unknown; a real error is raised again below
        reason = f"{type(error).__name__}: {error}"
    if not reason:
        return network
    logger.warning(
        "init_network can't build the network without memory for its values (on the meta device), so each process "
        "builds all of it, and keeps its rows: %s. If the whole network doesn't fit into the memory of the machine "
        "that often, let init_network only make modules.",
        reason,
    )
    return init()


def _values_that_are_missing(network: torch.nn.Module) -> str:
    for name, module in network.named_modules():
        for attribute, value in vars(module).items():
            if attribute in ("_parameters", "_buffers", "_modules"):
                continue
            if any(one.is_meta for one in _tensors_in(value)):
                return f"the attribute {attribute} of {name or type(network).__name__} is a tensor, and not a buffer"
    return ""


def _tensors_in(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _tensors_in(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tensors_in(one)
