"""The processes that run one training together. Hooks and sessions use this interface, never `torch.distributed`."""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from torchbase.distributed.members import Member
from torchbase.errors import ProcessesDifferError


class Processes(ABC):
    """The processes that run one training together, as seen by one of them.

    Each method that communicates has to be called by all processes, in the same order. It waits for the others, and
    raises an error if one of them has ended or doesn't answer in time.

    Attributes:
        index: The index of this process, from 0.
        count: The number of processes.
        members: The processes, by index; empty before `introduce`. A session calls it.
    """

    index: int
    count: int
    members: Sequence[Member] = ()

    @property
    def is_main(self) -> bool:
        """Whether this is the main process, the one that writes files and logs."""
        return self.index == 0

    @abstractmethod
    def gather(self, value: Any, purpose: str = "a value") -> list[Any]:
        """Returns the values of all processes, to each of them.

        Args:
            value: Any value that can be pickled, such as numbers, dictionaries or small tensors on the CPU.
            purpose: What the values are for, for the error if another process is elsewhere.

        Returns:
            One value per process, by index.

        Raises:
            ProcessError: If another process has ended, doesn't answer, or gathers for another purpose.
        """

    @abstractmethod
    def reduce(
        self,
        tensors: Sequence[torch.Tensor | None],
        like: Sequence[torch.Tensor],
        levels: Sequence[int] | None = None,
    ) -> list[torch.Tensor | None]:
        """Adds tensors of all processes in a fixed order, so that the bits depend on the levels alone.

        Args:
            tensors: The tensors of this process; None where it has none. They may be changed.
            like: Tensors with the shapes, dtypes and devices of ``tensors``.
            levels: By process, the level of its tensors in a binary tree, see `torchbase.distributed.tree_sum`. All
                are at level 0 by default.

        Returns:
            The sums, the same on each process; None where no process has a tensor.

        Raises:
            ProcessError: If another process has ended or doesn't answer.
        """

    def gather_tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        """Returns the tensors of all processes. On a GPU it doesn't wait for the device.

        Args:
            tensor: A tensor of one dimension, of the same length and dtype on each process.

        Returns:
            The tensors, a row per process, by index.

        Raises:
            ProcessError: If another process has ended or doesn't answer.
        """
        return torch.stack([one.to(tensor.device) for one in self.gather(tensor, "tensors of all processes")])

    def gather_and_reduce(
        self,
        value: Any,
        tensors: Sequence[torch.Tensor | None],
        like: Sequence[torch.Tensor],
        levels: Sequence[int] | None = None,
        purpose: str = "a value and a sum",
    ) -> tuple[list[Any], list[torch.Tensor | None]]:
        """Does what `gather` and `reduce` do, in one exchange where that is possible.

        Args:
            value: As for `gather`.
            tensors: As for `reduce`.
            like: As for `reduce`.
            levels: As for `reduce`.
            purpose: As for `gather`.

        Returns:
            One value per process, by index, and the sums.

        Raises:
            ProcessError: As `gather`.
        """
        return self.gather(value, purpose), self.reduce(tensors, like, levels)

    @abstractmethod
    def tell_tensors(self, tensors: Sequence[torch.Tensor], source: int = 0) -> None:
        """Copies the values of tensors of one process into those of each other process.

        Args:
            tensors: Dense tensors, of the same shapes and dtypes on each process.
            source: The index of the process that has the values; the main process by default.

        Raises:
            ProcessError: If another process has ended or doesn't answer.
        """

    def deal(self, rows: torch.Tensor | None, own: torch.Tensor, rows_of_one: int) -> None:
        """Sends each process its rows of a tensor of the main process.

        Args:
            rows: The whole tensor, on the main process; None on others.
            own: Receives the rows of this process.
            rows_of_one: The number of rows of each process. The last ones can have fewer, or none.

        Raises:
            ProcessError: If another process has ended or doesn't answer.
        """
        if rows is not None:
            own.copy_(rows)

    def explaining(self, purpose: str) -> AbstractContextManager[None]:
        """Explains errors of `torch.distributed` in code that communicates by itself.

        Args:
            purpose: What it communicates for.

        Returns:
            A context manager.
        """
        return nullcontext()

    @abstractmethod
    def now(self) -> float:
        """Returns the seconds of a clock that all processes share: the same number on each of them.

        It is the clock of the main process, as of the last time that the processes communicated.
        """

    @abstractmethod
    def for_another_thread(self) -> "Processes":
        """Returns the same processes with connections of their own, so that a thread can use them meanwhile.

        Raises:
            ProcessError: If another process has ended or doesn't answer.
        """

    def introduce(self, member: Member) -> None:
        """Describes this process to the others, and sets `members`.

        Args:
            member: The description.

        Raises:
            ProcessError: As `gather`.
        """
        self.members = tuple(self.gather(member, "the machines and devices"))

    def tell(self, value: Any, purpose: str = "a value") -> Any:
        """Returns the value of the main process, to each process.

        Args:
            value: Any value that can be pickled; only that of the main process counts.
            purpose: As for `gather`.

        Raises:
            ProcessError: As `gather`.
        """
        return self.gather(value if self.is_main else None, purpose)[0]

    def agree(self, value: Any, name: str) -> None:
        """Checks that a value is the same on each process.

        Args:
            value: A value that can be pickled and compared.
            name: What it is, for the message.

        Raises:
            ProcessesDifferError: If it differs. It is raised on each process.
            ProcessError: As `gather`.
        """
        values = self.gather(value, f"the comparison of {name}")
        others = [index for index, other in enumerate(values) if other != values[0]]
        if others:
            index = others[0]
            raise ProcessesDifferError(
                f"{name} differs between processes: {values[0]!r} on process 0, but {values[index]!r} on process "
                f"{index}. To fix, run the same code with the same data and config on each process."
            )


class SingleProcess(Processes):
    """A training that runs in this process alone. Nothing is communicated."""

    index = 0
    count = 1

    def gather(self, value: Any, purpose: str = "a value") -> list[Any]:
        """Returns a list with the value."""
        return [value]

    def reduce(
        self,
        tensors: Sequence[torch.Tensor | None],
        like: Sequence[torch.Tensor],
        levels: Sequence[int] | None = None,
    ) -> list[torch.Tensor | None]:
        """Returns the tensors."""
        return list(tensors)

    def gather_tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        """Returns the tensor, as a row."""
        return tensor[None]

    def tell_tensors(self, tensors: Sequence[torch.Tensor], source: int = 0) -> None:
        """Does nothing."""

    def now(self) -> float:
        """Returns the seconds of the monotonic clock."""
        return time.monotonic()

    def for_another_thread(self) -> Processes:
        """Returns this object."""
        return self


ALONE = SingleProcess()
