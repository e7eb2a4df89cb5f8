"""How the processes of a training hold a network that is sharded over them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from torchbase.data.device_copies import map_tensors
from torchbase.distributed.blocks import take_turns
from torchbase.distributed.processes import Processes
from torchbase.distributed.shards import is_shard, local_of
from torchbase.engine.held_network import Gradients, PartToCompute
from torchbase.engine.part_results import LoggedParts
from torchbase.engine.run import Run
from torchbase.sharding.building import NetworkBuilder
from torchbase.sharding.reduction import TreeReduceScatter


class ShardedNetwork:
    """Some rows of each parameter on each process.

    In each round the processes compute consecutive parts of a mini-batch, one each. A process without a part computes
    that of another, since all of them have to gather the parameters, and its results are dropped.
    """

    def __init__(self, processes: Processes, device: torch.device) -> None:
        """Sets who holds the network.

        Args:
            processes: The processes, at least two.
            device: The device of this process.
        """
        self._processes, self._device = processes, device
        self._reduction = TreeReduceScatter(processes.count)
        self._parts = 0
        self._parameters: list[torch.Tensor] = []
        self._whole: list[int] = []
        self._gradients: dict[int, torch.Tensor] = {}

    def build(
        self,
        init: Callable[[], torch.nn.Module],
        load: Callable[[torch.nn.Module], None],
        units: Callable[[torch.nn.Module], Sequence[torch.nn.Module]],
    ) -> torch.nn.Module:
        """Builds the network, and shards it.

        Args:
            init: Builds the whole network.
            load: Loads the values with which the run starts, on the main process only.
            units: Returns the units of the network.

        Returns:
            The network. Its parameters are shards.
        """
        return NetworkBuilder(self._processes, self._device, self._reduction).build(init, load, units)

    def own_parts(self, parts: int, processes: Processes) -> range:
        """Returns the numbers of the parts that this process computes; see `HeldNetwork`."""
        return take_turns(parts, processes.count)[processes.index]

    def begin_phase(self, parts: int, processes: Processes) -> None:
        """Looks up what each iteration needs; see `HeldNetwork`."""
        self._parts = parts

    def train(self, parameters: Sequence[torch.Tensor]) -> None:
        """Sets whose gradients are added; see `HeldNetwork`."""
        self._parameters = list(parameters)
        self._whole = [position for position, one in enumerate(parameters) if not is_shard(one)]

    def owner_of(self, part: int) -> int:
        """Returns the index of the process that computes a part; see `HeldNetwork`."""
        return part % self._processes.count

    def parts_to_compute(self, own: Mapping[int, Any], with_samples: Sequence[int]) -> Iterator[PartToCompute | None]:
        """Yields what this process computes for a mini-batch; see `HeldNetwork`."""
        count, index = self._processes.count, self._processes.index
        substitute = self._substitute(own, with_samples)
        for first in range(0, self._parts, count):
            self._reduction.has_part = [number in with_samples for number in range(first, first + count)]
            number = first + index
            if not any(self._reduction.has_part):
                yield None
            elif number in own:
                yield PartToCompute(number, own[number])
            else:
                yield PartToCompute(number, substitute, is_substitute=True)

    @contextmanager
    def computing(self, what: str) -> Iterator[None]:
        """Explains errors of communication while the network computes; see `HeldNetwork`."""
        try:
            with self._processes.explaining(what):
                yield
        except RuntimeError as error:
            if "mixed torch.Tensor and DTensor" in str(error):
                error.add_note(
                    "The parameters of a sharded network are whole only while the network is called. To fix, call "
                    "self.network(…) in forward_pass, not its parts or other methods, and don't use its parameters "
                    "in the loss."
                )
            raise

    def take(self) -> Gradients:
        """Takes the gradients from the parameters; see `HeldNetwork`."""
        self._gradients.clear()
        return self._take()

    def take_of_part(self, part: PartToCompute) -> Gradients:
        """Takes the gradients of a round from the parameters; see `HeldNetwork`."""
        gradients = self._take()
        if self._whole:  # FSDP2 hasn't added them
            own = [None if part.is_substitute else gradients[position] for position in self._whole]
            like = [self._parameters[position] for position in self._whole]
            for position, total in zip(self._whole, self._processes.reduce(own, like), strict=True):
                gradients[position] = total
        return gradients

    def give(self, gradients: Sequence[torch.Tensor | None]) -> None:
        """Gives gradients to the parameters; see `HeldNetwork`."""
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = None if gradient is None else self._gradients.get(id(gradient), gradient)
        self._gradients.clear()

    def exchange(
        self, run: Run, logged: LoggedParts, gradients: Gradients, purpose: str
    ) -> tuple[list[LoggedParts], Gradients]:
        """Sends what this process logged; see `HeldNetwork`. The gradients were added after each round."""
        return run.processes.gather(logged, purpose), gradients

    def _take(self) -> Gradients:
        # FSDP2 would add the gradients of the next round to those that it finds.
        gradients: Gradients = []
        for parameter in self._parameters:
            gradient = parameter.grad
            if gradient is None:
                gradients.append(None)
                continue
            parameter.grad = None
            local = local_of(gradient)
            self._gradients[id(local)] = gradient
            gradients.append(local)
        return gradients

    def _substitute(self, own: Mapping[int, Any], with_samples: Sequence[int]) -> Any:
        """Returns what this process computes where it has no part: its first part, or that of another process."""
        have_parts = {self.owner_of(number) for number in with_samples}
        if len(have_parts) == self._processes.count:
            return own[min(own)]
        source = self.owner_of(with_samples[0])
        mine = own[with_samples[0]] if self._processes.index == source else None
        told = self._processes.gather(mine, "a part for the processes without one")[source]
        if own:
            return own[min(own)]
        return map_tensors(told, lambda tensor: tensor.to(self._device))
