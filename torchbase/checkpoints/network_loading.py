"""Loads a saved state into a network whose buffers may have been None, or of another shape, when it was built."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from torch.nn.parameter import is_lazy

from torchbase.checkpoints.distributed_tensors import as_in
from torchbase.checkpoints.network_copy import is_empty_buffer
from torchbase.checkpoints.saved_tensors import SavedTensor
from torchbase.distributed.shards import is_shard
from torchbase.files.nested import map_leaves


def load_network(network: torch.nn.Module, state: Mapping[str, Any]) -> None:
    """Loads a state as ``network.load_state_dict`` does, and makes room for buffers that grew in training.

    A buffer that is None gets the saved tensor; one with another shape of as many dimensions is replaced. Parameters of
    another shape are an error, as always.

    Args:
        network: The network. If its parameters are sharded, each process reads the rows that it holds.
        state: What its ``state_dict`` returned, with tensors or saved tensors.

    Raises:
        RuntimeError: If the state doesn't fit the network.
    """
    state = _as_in_network(state, network)
    modules = dict(network.named_modules())
    for path, value in state.items():
        owner, _, name = path.rpartition(".")
        module = modules.get(owner)
        if module is not None and isinstance(value, torch.Tensor) and _needs_room(module, name, value):
            with suppress(TypeError):  # a parameter that is None refuses a tensor: load_state_dict says which
                setattr(module, name, torch.empty_like(value, device=_device_of(network)))
    network.load_state_dict(state)


def _as_in_network(state: Mapping[str, Any], network: torch.nn.Module) -> Mapping[str, Any]:
    is_read_later = any(isinstance(value, SavedTensor) for value in state.values())
    if not is_read_later and not any(is_shard(parameter) for parameter in network.parameters()):
        return state
    own = network.state_dict()
    placed: Mapping[str, Any] = map_leaves(state, lambda path, value: as_in(own.get(path[0]), value))
    return placed


def _needs_room(module: torch.nn.Module, name: str, value: torch.Tensor) -> bool:
    buffer = dict(module.named_buffers(recurse=False)).get(name)
    if buffer is None:
        return is_empty_buffer(module, name)
    return not is_lazy(buffer) and buffer.dim() == value.dim() and buffer.shape != value.shape


def _device_of(network: torch.nn.Module) -> torch.device:
    tensors = (*network.parameters(), *network.buffers())
    return tensors[0].device if tensors else torch.device("cpu")
