"""Builds a network without memory for its values, where the values come from another process."""

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from torchbase.randomness.streams import capture_streams, restore_streams

logger = logging.getLogger("torchbase")


def build_without_memory(
    init: Callable[[], torch.nn.Module], attributes: Mapping[str, object], device: torch.device
) -> torch.nn.Module:
    """Builds a network on the meta device. If that isn't possible, builds it with memory, and says so.

    Args:
        init: Builds the network.
        attributes: Those of the session, to which ``init`` may add.
        device: The device whose random numbers ``init`` may draw.

    Returns:
        The network. Its parameters and buffers have no values, or any.
    """
    streams, before = capture_streams(device), {id(one) for one in attributes.values()}
    try:
        with torch.device("meta"):
            network = init()
        reason = _missing_values(network, {name: one for name, one in attributes.items() if id(one) not in before})
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
    restore_streams(streams, device)  # so that it draws what it draws on the main process
    return init()


def _missing_values(network: torch.nn.Module, added: Mapping[str, object]) -> str:
    """Returns which value isn't told by the main process, since it is no parameter or buffer; "" if there is none."""
    known = {id(one) for one in (*network.parameters(), *network.buffers())}
    for name, value in added.items():
        if any(one.is_meta and id(one) not in known for one in _tensors_in(value)):
            return f"self.{name} has tensors that aren't the network's"
    for name, module in network.named_modules():
        for attribute, value in vars(module).items():
            if attribute in ("_parameters", "_buffers", "_modules"):
                continue
            if any(one.is_meta and id(one) not in known for one in _tensors_in(value)):
                return f"the attribute {attribute} of {name or type(network).__name__} is a tensor, and not a buffer"
    return ""


def _tensors_in(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _tensors_in(one)
    elif isinstance(value, torch.nn.Module):
        yield from (*value.parameters(), *value.buffers())
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tensors_in(one)
