"""Loads a saved state into a network whose buffers may have been None, or of another shape, when it was built."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any, NamedTuple

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


class Matching(NamedTuple):
    """What a network took from a state.

    Attributes:
        taken: The names of the parameters, buffers and extra states that it took.
        missing: The names of those that the state lacks.
        left_over: The names in the state that the network lacks.
        other_shape: By the names of those that have other shapes, a description of both shapes.
    """

    taken: Sequence[str]
    missing: Sequence[str] = ()
    left_over: Sequence[str] = ()
    other_shape: Mapping[str, str] = MappingProxyType({})


def load_matching(network: torch.nn.Module, state: Mapping[str, Any]) -> Matching:
    """Loads what matches by name and shape, and leaves the rest of the network as it is.

    Args:
        network: The network.
        state: What the ``state_dict`` of another network returned, with tensors or saved tensors.

    Returns:
        What was taken, and what wasn't.
    """
    own = network.state_dict()
    others = {
        name: f"{_shape_of(state[name])} in the source, {_shape_of(own[name])} here"
        for name in own
        if name in state and _shape_of(state[name]) != _shape_of(own[name])
    }
    taken = [name for name in own if name in state and name not in others]
    missing, left_over = [name for name in own if name not in state], [name for name in state if name not in own]
    own.update({name: state[name] for name in taken})  # with the metadata of the network's own classes
    load_network(network, own)
    return Matching(taken, missing, left_over, others)


def _shape_of(value: Any) -> tuple[int, ...] | None:
    return tuple(value.shape) if isinstance(value, torch.Tensor | SavedTensor) else None


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
