"""How the processes of a training hold its network: which parts each computes, and how gradients are added."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, Protocol

import torch

from torchbase.distributed.blocks import Block, share_out
from torchbase.distributed.processes import Processes
from torchbase.engine.part_results import LoggedParts
from torchbase.engine.run import Run

Gradients = list[torch.Tensor | None]


class PartToCompute(NamedTuple):
    """A part of a mini-batch that a process computes.

    Attributes:
        number: The number of the part.
        mini_batch: Its samples.
        is_substitute: Whether the part has no samples, and these are those of another part. Its results don't count.
    """

    number: int
    mini_batch: Any
    is_substitute: bool = False


class HeldNetwork(Protocol):
    """How the processes hold the network."""

    def own_parts(self, parts: int, processes: Processes) -> range:
        """Returns the numbers of the parts that this process computes.

        Args:
            parts: The number of parts of each mini-batch.
            processes: The processes.
        """

    def begin_phase(self, parts: int, processes: Processes) -> None:
        """Looks up what each iteration needs.

        Args:
            parts: The number of parts of each mini-batch.
            processes: The processes.
        """

    def train(self, parameters: Sequence[torch.Tensor]) -> None:
        """Sets whose gradients are added.

        Args:
            parameters: The parameters of the network and of the optimizer.
        """

    def owner_of(self, part: int) -> int:
        """Returns the index of the process that computes a part.

        Args:
            part: The number of the part.
        """

    def parts_to_compute(self, own: Mapping[int, Any], with_samples: Sequence[int]) -> Iterator[PartToCompute | None]:
        """Yields what this process computes for a mini-batch, one after the other.

        Args:
            own: The parts of this process that have samples, by number.
            with_samples: The numbers of the parts that have samples, over all processes.

        Yields:
            Parts; None for a part without samples that isn't computed, and that keeps its place in the sum.
        """

    def count_to_compute(self, own: Mapping[int, Any], with_samples: Sequence[int]) -> int:
        """Returns how many parts `parts_to_compute` yields.

        Args:
            own: The parts of this process that have samples, by number.
            with_samples: The numbers of the parts that have samples, over all processes.
        """

    def computing(self, what: str) -> AbstractContextManager[None]:
        """Explains errors of communication while the network computes.

        Args:
            what: What it computes.
        """

    def take(self) -> Gradients:
        """Takes the gradients from the parameters. They are in a form that can be added."""

    def take_of_part(self, part: PartToCompute) -> Gradients:
        """Takes the gradients of a part from the parameters, after its backward pass.

        Args:
            part: The part.
        """

    def give(self, gradients: Sequence[torch.Tensor | None]) -> None:
        """Gives gradients to the parameters.

        Args:
            gradients: Sums of what `take` and `exchange` returned.
        """

    def exchange(
        self, run: Run, logged: LoggedParts, gradients: Gradients | None, purpose: str
    ) -> tuple[list[LoggedParts], Gradients]:
        """Sends what this process logged, and adds the gradients of all processes.

        Args:
            run: The run.
            logged: What the parts of this process logged.
            gradients: The sum of the gradients of the parts of this process; empty if it had none, and None in
                validation.
            purpose: What they are for, for the error if another process is elsewhere.

        Returns:
            What each process logged, by index, and the sum of the gradients.
        """


class ReplicatedNetwork:
    """The whole network on each process. Each computes a block of the parts, and the sums of the blocks are added."""

    def __init__(self) -> None:
        self._blocks: list[Block] = []
        self._index = 0
        self._parameters: list[torch.Tensor] = []

    def own_parts(self, parts: int, processes: Processes) -> range:
        """Returns the numbers of the parts that this process computes; see `HeldNetwork`."""
        return share_out(parts, processes.count)[processes.index].parts

    def begin_phase(self, parts: int, processes: Processes) -> None:
        """Looks up what each iteration needs; see `HeldNetwork`."""
        self._blocks, self._index = share_out(parts, processes.count), processes.index

    def train(self, parameters: Sequence[torch.Tensor]) -> None:
        """Sets whose gradients are added; see `HeldNetwork`."""
        self._parameters = list(parameters)

    def owner_of(self, part: int) -> int:
        """Returns the index of the process that computes a part; see `HeldNetwork`."""
        return next(index for index, block in enumerate(self._blocks) if part in block.parts)

    def parts_to_compute(self, own: Mapping[int, Any], with_samples: Sequence[int]) -> Iterator[PartToCompute | None]:
        """Yields what this process computes for a mini-batch; see `HeldNetwork`."""
        for number in self._blocks[self._index].parts:
            yield PartToCompute(number, own[number]) if number in own else None

    def count_to_compute(self, own: Mapping[int, Any], with_samples: Sequence[int]) -> int:
        """Returns how many parts this process computes; see `HeldNetwork`."""
        return len(own)

    def computing(self, what: str) -> AbstractContextManager[None]:
        """Does nothing, since no process communicates while it computes."""
        return nullcontext()

    def take(self) -> Gradients:
        """Takes the gradients from the parameters; see `HeldNetwork`."""
        gradients = [parameter.grad for parameter in self._parameters]
        for parameter in self._parameters:
            parameter.grad = None
        return gradients

    def take_of_part(self, part: PartToCompute) -> Gradients:
        """Takes the gradients of a part; see `HeldNetwork`."""
        return self.take()

    def give(self, gradients: Sequence[torch.Tensor | None]) -> None:
        """Gives gradients to the parameters; see `HeldNetwork`."""
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient

    def exchange(
        self, run: Run, logged: LoggedParts, gradients: Gradients | None, purpose: str
    ) -> tuple[list[LoggedParts], Gradients]:
        """Adds the gradients of all processes; see `HeldNetwork`."""
        if gradients is None:
            return run.processes.gather(logged, purpose), []
        own = gradients or [None] * len(self._parameters)
        levels = [block.level for block in self._blocks]
        return run.processes.gather_and_reduce(logged, own, self._parameters, levels, purpose)
