"""The values of a run of which fingerprints are made, by part and name, and their hashes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.nn.parameter import is_lazy

from torchbase.distributed.shards import whole_of
from torchbase.engine.named_optimizers import by_name
from torchbase.engine.run import Run
from torchbase.engine.training_step import network_of
from torchbase.files.hashes import UnhashableError, hash_of
from torchbase.files.nested import map_leaves
from torchbase.randomness.streams import capture_streams, pack_streams
from torchbase.run_directory.hashed_parts import BYTES_OF_EACH, PartOfState

# The parameters are elsewhere. How a step is computed is chosen by the device and the number of processes.
_NO_STATE = frozenset({"params", "foreach", "fused"})

ValuesByName = dict[str, Any]
NoteUnhashable = Callable[[str, object], None]


def values_of(run: Run, with_streams: bool) -> dict[str, ValuesByName]:
    """Collects the values of which a fingerprint is made.

    Args:
        run: The run, between two iterations.
        with_streams: Whether the states of the random streams are among them.

    Returns:
        The values by part and name, not copied.
    """
    state = network_of(run).state_dict()
    parts = {"network": {name: value for name, value in state.items() if not is_lazy(value)}, "optimizer": {}}
    for name, optimizer in by_name(run.optimizer).items():
        named = dict(_of_optimizer(optimizer, network_of(run)))
        parts["optimizer"] |= named if name is None else {f"{name}.{key}": value for key, value in named.items()}
    if with_streams:
        streams = capture_streams(run.device) if run.random_states is None else run.random_states
        parts["random"] = dict(pack_streams(streams))
    return parts


def hash_parts(
    parts: Mapping[str, ValuesByName], note_unhashable: NoteUnhashable, on_host: Callable[[Any], Any] = lambda one: one
) -> dict[str, PartOfState]:
    """Hashes values.

    Args:
        parts: The values by part and name.
        note_unhashable: Called with the part and name of a value that can't be hashed, and with the value.
        on_host: Takes a value. Returns the value to hash, on the host; see `whole_on_host`. By default all are there.

    Returns:
        The hashes by part. Those that can't be hashed are left out.
    """
    digests: dict[str, dict[str, bytes]] = {}
    for part, values in parts.items():
        digests[part] = {}
        for name, value in values.items():
            try:
                digests[part][name] = hash_of(on_host(value))
            except UnhashableError:
                note_unhashable(f"{part}.{name}", value)
    return {part: _joined(of_part) for part, of_part in digests.items()}


def whole_on_host(value: Any) -> Any:
    """Returns a value without shards, on the host. All processes of a sharded run have to call it.

    Args:
        value: Tensors and plain values, in any nesting.
    """
    return map_leaves(value, lambda _, one: whole_of(one).cpu() if isinstance(one, torch.Tensor) else one)


def hash_of_parts(parts: Mapping[str, PartOfState]) -> str:
    """Returns the hash of the whole state, in hexadecimal digits.

    Args:
        parts: The parts by name.
    """
    return hash_of({name: part.bits for name, part in parts.items()}).hex()


def _joined(digests: Mapping[str, bytes]) -> PartOfState:
    each = b"".join(one[:BYTES_OF_EACH] for one in digests.values())
    named = b"".join(f"{name}\0".encode() + digest for name, digest in digests.items())
    return PartOfState(hash_of(named).hex(), tuple(digests), each)


def _of_optimizer(optimizer: torch.optim.Optimizer, network: torch.nn.Module) -> Iterator[tuple[str, Any]]:
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    for key, value in optimizer.state_dict().items():
        if key == "state" and isinstance(value, Mapping):
            for number, of_parameter in value.items():
                name = _name_of(number, parameters, names)
                yield from _flat(name, of_parameter)
        elif key == "param_groups" and isinstance(value, list):
            for number, group in enumerate(value):
                yield from _flat(f"{key}.{number}", {name: one for name, one in group.items() if name not in _NO_STATE})
        else:
            yield key, value


def _name_of(number: object, parameters: Sequence[torch.Tensor], names: Mapping[int, str]) -> str:
    if not isinstance(number, int) or number >= len(parameters):
        return f"state.{number}"
    return names.get(id(parameters[number]), f"state.{number}")


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((f"{name}.{key}", one) for key, one in value.items())
    else:
        yield name, value
