"""Builds a network of which each process holds some rows only, from the start."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from torchbase.distributed.processes import Processes
from torchbase.distributed.shards import is_shard, local_of
from torchbase.errors import ProcessesDifferError
from torchbase.sharding.checks import check_can_be_sharded, check_units
from torchbase.sharding.collectives import Sent, communicate_by, give_outputs_their_own_memory
from torchbase.sharding.meta_device import build_without_memory

_WITH_STATISTICS = (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.BatchNorm3d, torch.nn.SyncBatchNorm)


class _Described(NamedTuple):
    """A parameter or buffer, as the main process describes it."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    requires_grad: bool


class NetworkBuilder:
    """Builds the whole network on the main process only, and sends each process its rows."""

    def __init__(self, processes: Processes, device: torch.device, sent: Sent) -> None:
        """Sets who holds the network.

        Args:
            processes: The processes.
            device: The device of this process.
            sent: Notes what is sent.
        """
        self._processes, self._device, self._sent = processes, device, sent

    def build(
        self,
        init: Callable[[], torch.nn.Module],
        load: Callable[[torch.nn.Module], None],
        units_of: Callable[[torch.nn.Module], Sequence[torch.nn.Module]],
        attributes: Mapping[str, object],
        dtype: torch.dtype | None,
    ) -> torch.nn.Module:
        """Builds the network, and shards it.

        Args:
            init: Builds the whole network.
            load: Loads the values with which the run starts, on the main process only.
            units_of: Returns the units of the network.
            attributes: Those of the session, to which ``init`` may add.
            dtype: The type in which the units compute; None for that of their parameters.

        Returns:
            The network, with the values of the main process.

        Raises:
            StepError: If the network can't be sharded.
            ProcessesDifferError: If the processes have built different networks.
        """
        if self._processes.is_main:
            network = init()
            load(network)
        else:
            network = build_without_memory(init, attributes, self._device)
        check_can_be_sharded(network)
        units = check_units(network, units_of(network))
        self._make_alike(network)
        values = {id(one): one.detach() for one in network.parameters()} if self._processes.is_main else {}
        origins = [id(one) for one in network.parameters()]
        self._shard(network, units, dtype)
        with torch.no_grad():
            self._deal(list(network.parameters()), [values.get(origin) for origin in origins])
        whole = [one for one in (*network.parameters(), *network.buffers()) if not is_shard(one)]
        self._processes.tell_tensors(whole)
        return network

    def _make_alike(self, network: torch.nn.Module) -> None:
        """Gives buffers the shapes that they have on the main process, where a loaded state may have changed them."""
        own = _describe(network.named_parameters()), _describe(network.named_buffers())
        parameters, buffers = self._processes.tell(own, "the shapes of the network")
        for here, there in zip(own[0], parameters, strict=False):
            if here != there:
                raise ProcessesDifferError(
                    f"The network has the parameter {there.name} of shape {there.shape}, {there.dtype}, on process 0, "
                    f"but {here.name} of shape {here.shape}, {here.dtype}, on process {self._processes.index}. To fix, "
                    "let init_network build the same network on each process."
                )
        if len(own[0]) != len(parameters):
            raise ProcessesDifferError(
                f"The network has {len(parameters)} parameters on process 0, but {len(own[0])} on process "
                f"{self._processes.index}. To fix, let init_network build the same network on each process."
            )
        made: dict[int, torch.Tensor] = {}
        found = dict(network.named_buffers(remove_duplicate=False))
        for name, shape, dtype, _ in buffers:
            buffer = found.get(name)
            fits = buffer is not None and buffer.shape == shape and buffer.dtype == dtype
            if self._processes.is_main or (fits and buffer is not None and not buffer.is_meta):
                continue
            new = torch.empty(shape, dtype=dtype, device=self._device)
            made[id(buffer) if buffer is not None else id(new)] = new
            if buffer is None:
                _set(network, name, new)
        for name, buffer in found.items():
            if id(buffer) in made:
                _set(network, name, made[id(buffer)])
        for module in network.modules():
            for name, buffer in module.named_buffers(recurse=False):
                if buffer.device != self._device:
                    moved = made.setdefault(id(buffer), buffer.to(self._device))
                    setattr(module, name, moved)

    def _shard(self, network: torch.nn.Module, units: Sequence[torch.nn.Module], dtype: torch.dtype | None) -> None:
        mesh = init_device_mesh(self._device.type, (self._processes.count,))
        # FSDP2 needs a first dimension with elements.
        whole = {one for one in network.parameters() if one.dim() == 0 or one.numel() == 0}
        # Batch normalization of CPUs has one type for its statistics and parameters.
        in_float32 = [] if dtype is None else [one for one in network.modules() if isinstance(one, _WITH_STATISTICS)]
        others = [one for one in units if one not in in_float32]
        for unit in dict.fromkeys((*in_float32, *reversed(others), network)):  # from the inside to the outside
            moved = self._give_memory(network, unit)
            whole = {moved.get(one, one) for one in whole}
            fully_shard(
                unit,
                mesh=mesh,
                reshard_after_forward=True,
                mp_policy=_policy(dtype, unit is network, unit in in_float32),
                ignored_params=whole,
            )
        communicate_by(network, self._sent)
        give_outputs_their_own_memory(network)

    def _give_memory(
        self, network: torch.nn.Module, unit: torch.nn.Module
    ) -> dict[torch.nn.Parameter, torch.nn.Parameter]:
        """Moves the parameters of a unit to the device. A whole unit is there only until it is sharded."""
        new: dict[torch.nn.Parameter, torch.nn.Parameter] = {}
        for parameter in unit.parameters():
            if parameter.is_meta:
                memory = torch.empty_like(parameter, device=self._device)
                new[parameter] = torch.nn.Parameter(memory, parameter.requires_grad)
            elif parameter.device != self._device and not is_shard(parameter):
                parameter.data = parameter.detach().to(self._device)
        for module in network.modules() if new else ():
            for name, parameter in list(module.named_parameters(recurse=False, remove_duplicate=False)):
                if parameter in new:
                    module.register_parameter(name, new[parameter])
        return new

    def _deal(self, parameters: Sequence[torch.Tensor], values: list[torch.Tensor | None]) -> None:
        """Sends each process its rows of each parameter."""
        for position, parameter in enumerate(parameters):
            value, values[position] = values[position], None
            if is_shard(parameter):
                local = local_of(parameter)
                rows = -(-len(parameter) // self._processes.count)
                self._processes.deal(value, local, rows)
            elif value is not None:
                parameter.copy_(value)


def _policy(dtype: torch.dtype | None, is_network: bool, is_in_float32: bool) -> MixedPrecisionPolicy:
    if dtype is None:
        return MixedPrecisionPolicy()
    if is_in_float32:
        return MixedPrecisionPolicy(param_dtype=torch.float32, output_dtype=torch.float32 if is_network else dtype)
    # The sum of gradients keeps its bits, and the loss is computed in float32.
    output = torch.float32 if is_network else None
    return MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, output_dtype=output)


def _describe(named: object) -> list[_Described]:
    return [
        _Described(name, tuple(one.shape), one.dtype, one.requires_grad)
        for name, one in named  # type: ignore[attr-defined]
    ]


def _set(network: torch.nn.Module, name: str, buffer: torch.Tensor) -> None:
    owner, _, last = name.rpartition(".")
    setattr(network.get_submodule(owner), last, buffer)
