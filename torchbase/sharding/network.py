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
from torchbase.engine.training_step import network_of
from torchbase.errors import StepError
from torchbase.sharding.building import NetworkBuilder
from torchbase.sharding.collectives import Sent
from torchbase.sharding.exactness import mixed_tensors_explained


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
        self._sent = Sent(processes.count)
        self._parts = 0
        self._parameters: list[torch.Tensor] = []
        self._whole: list[int] = []
        self._gradients: dict[int, torch.Tensor] = {}
        self._rounds: list[int] = []

    def build(
        self,
        init: Callable[[], torch.nn.Module],
        load: Callable[[torch.nn.Module], None],
        units: Callable[[torch.nn.Module], Sequence[torch.nn.Module]],
        attributes: Mapping[str, object],
        dtype: torch.dtype | None = None,
    ) -> torch.nn.Module:
        """Builds the network, and shards it.

        Args:
            init: Builds the whole network.
            load: Loads the values with which the run starts, on the main process only.
            units: Returns the units of the network.
            attributes: Those of the session, to which ``init`` may add.
            dtype: The type in which the units compute; None for that of their parameters.

        Returns:
            The network. Its parameters are shards.
        """
        return NetworkBuilder(self._processes, self._device, self._sent).build(init, load, units, attributes, dtype)

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
        self._rounds = []
        self._sent.units.clear()
        substitute = self._substitute(own, with_samples)
        for first in range(0, self._parts, count):
            self._sent.has_part = [number in with_samples for number in range(first, first + count)]
            number = first + index
            if not any(self._sent.has_part):
                yield None
            elif number in own:
                yield PartToCompute(number, own[number])
            else:
                yield PartToCompute(number, substitute, is_substitute=True)

    def count_to_compute(self, own: Mapping[int, Any], with_samples: Sequence[int]) -> int:
        """Returns the number of rounds; see `HeldNetwork`."""
        return len({number // self._processes.count for number in with_samples})

    @contextmanager
    def computing(self, what: str) -> Iterator[None]:
        """Explains errors of communication while the network computes; see `HeldNetwork`."""
        with self._processes.explaining(what), mixed_tensors_explained():
            yield

    def take(self) -> Gradients:
        """Takes the gradients from the parameters; see `HeldNetwork`."""
        self._gradients.clear()
        return self._take()

    def take_of_part(self, part: PartToCompute) -> Gradients:
        """Takes the gradients of a round from the parameters; see `HeldNetwork`."""
        gradients = self._take()
        self._rounds.append(self._which_have(gradients))
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
        self, run: Run, logged: LoggedParts, gradients: Gradients | None, purpose: str
    ) -> tuple[list[LoggedParts], Gradients]:
        """Sends what this process logged; see `HeldNetwork`. The gradients were added after each round."""
        every = run.processes.gather((logged, hash(tuple(self._sent.units)), self._rounds), purpose)
        self._check_gradients(run, [rounds for _, _, rounds in every])
        if len({units for _, units, _ in every}) > 1 and all(one.abandoned is None for one, _, _ in every):
            raise StepError(
                "The processes have computed different units of the sharded network, or in another order, since the "
                "network decides by its samples which to use. A sharded network (session.distributed is 'shard') has "
                "to use the same units for each part of a mini-batch. To fix, call all of them, or train with "
                "'replicate'."
            )
        return [of_process for of_process, _, _ in every], gradients or []

    def _check_gradients(self, run: Run, every: Sequence[Sequence[int]]) -> None:
        for first, *others in zip(*every, strict=False):
            for index, other in enumerate(others, start=1):
                if first != other:
                    position = (first ^ other).bit_length() - 1
                    has_it, lacks_it = (0, index) if first >> position & 1 else (index, 0)
                    raise StepError(
                        f"The parameter {self._name_of(run, position)} gets a gradient in the part of a mini-batch "
                        f"that process {has_it} computes, but not in that of process {lacks_it}. A sharded network "
                        "(session.distributed is 'shard') has to use the same parameters for each part. To fix, add "
                        "0 * parameter.sum() to an output where it isn't used, or train with 'replicate'."
                    )

    def _name_of(self, run: Run, position: int) -> str:
        parameter = self._parameters[position]
        names = [name for name, one in network_of(run).named_parameters() if one is parameter]
        return repr(names[0]) if names else f"of shape {tuple(parameter.shape)} that isn't the network's"

    def _which_have(self, gradients: Gradients) -> int:
        """Returns, bit by bit, which of the sharded parameters have a gradient."""
        pairs = enumerate(zip(gradients, self._parameters, strict=True))
        return sum(1 << position for position, (one, parameter) in pairs if one is not None and is_shard(parameter))

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
