"""Processes that compare where they are before they communicate, so that none waits for ever for another."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch

from torchbase.distributed.processes import Processes
from torchbase.errors import ProcessError
from torchbase.session.base import TrainingBaseSession
from torchbase.testing.hook_frames import HookFrames


@dataclass(frozen=True)
class Place:
    """Where a process communicates.

    Attributes:
        method: The method of `Processes`.
        purpose: What it communicates for.
        event: The event of the checked hook that calls it; None outside of the hook.
    """

    method: str
    purpose: str
    event: str | None

    def __str__(self) -> str:
        """Formats the place for a message."""
        where = "outside of the hook" if self.event is None else f"in {self.event} of the hook"
        return f"calls {self.method} for {self.purpose}, {where}"


class DifferentPlacesError(ProcessError):
    """The processes communicate at different places.

    Attributes:
        places: The place of each process, by index.
    """

    def __init__(self, places: Sequence[Place]) -> None:
        super().__init__("; ".join(f"process {index} {place}" for index, place in enumerate(places)))
        self.places = tuple(places)


class CheckedProcesses(Processes):
    """Communicates as other `Processes` do, once all of them call the same method for the same purpose."""

    def __init__(self, processes: Processes, frames: HookFrames) -> None:
        """Wraps the processes.

        Args:
            processes: The processes, as seen by this one.
            frames: Of the checked hook.
        """
        # Its index, the number of processes, and what else it knows of them.
        vars(self).update({name: value for name, value in vars(processes).items() if not name.startswith("_")})
        self._processes, self._frames = processes, frames

    def gather(self, value: Any, purpose: str = "a value") -> list[Any]:
        """Returns the values of all processes; see `Processes.gather`."""
        self._meet("gather or tell", purpose)
        return self._processes.gather(value, purpose)

    def reduce(
        self,
        tensors: Sequence[torch.Tensor | None],
        like: Sequence[torch.Tensor],
        levels: Sequence[int] | None = None,
    ) -> list[torch.Tensor | None]:
        """Adds tensors of all processes; see `Processes.reduce`."""
        self._meet("reduce", "a sum of tensors")
        return self._processes.reduce(tensors, like, levels)

    def gather_and_reduce(
        self,
        value: Any,
        tensors: Sequence[torch.Tensor | None],
        like: Sequence[torch.Tensor],
        levels: Sequence[int] | None = None,
        purpose: str = "a value and a sum",
    ) -> tuple[list[Any], list[torch.Tensor | None]]:
        """Does both; see `Processes.gather_and_reduce`."""
        self._meet("gather_and_reduce", purpose)
        return self._processes.gather_and_reduce(value, tensors, like, levels, purpose)

    def gather_tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        """Returns the tensors of all processes; see `Processes.gather_tensor`."""
        self._meet("gather_tensor", "tensors of all processes")
        return self._processes.gather_tensor(tensor)

    def deal(self, rows: torch.Tensor | None, own: torch.Tensor, rows_of_one: int) -> None:
        """Sends each process its rows of a tensor; see `Processes.deal`."""
        self._meet("deal", "rows of a tensor")
        self._processes.deal(rows, own, rows_of_one)

    def explaining(self, purpose: str) -> AbstractContextManager[None]:
        """Explains errors of `torch.distributed`; see `Processes.explaining`."""
        return self._processes.explaining(purpose)

    def tell_tensors(self, tensors: Sequence[torch.Tensor], source: int = 0) -> None:
        """Copies the values of tensors of one process; see `Processes.tell_tensors`."""
        self._meet("tell_tensors", f"tensors of process {source}")
        self._processes.tell_tensors(tensors, source)

    def now(self) -> float:
        """Returns the seconds of the clock of the main process; see `Processes.now`."""
        return self._processes.now()

    def for_another_thread(self) -> Processes:
        """Returns the same processes with connections of their own; see `Processes.for_another_thread`."""
        self._meet("for_another_thread", "the connections of another thread")
        return self._processes.for_another_thread()

    def _meet(self, method: str, purpose: str) -> None:
        place = Place(method, purpose, self._frames.current_event())
        places = self._processes.gather(place, "the comparison of places")
        if any(other != places[0] for other in places):
            raise DifferentPlacesError(places)


class _CheckedAttribute:
    """The attribute ``processes`` of a session: what is set is wrapped, unless the process is alone."""

    def __init__(self, frames: HookFrames) -> None:
        self._frames = frames

    def __get__(self, session: object, owner: type | None = None) -> Any:
        return self if session is None else vars(session)["processes"]

    def __set__(self, session: object, processes: Processes) -> None:
        is_alone = processes.count == 1
        vars(session)["processes"] = processes if is_alone else CheckedProcesses(processes, self._frames)


def with_checked_processes(session_class: type[TrainingBaseSession], frames: HookFrames) -> type[TrainingBaseSession]:
    """Returns a class of sessions whose processes are `CheckedProcesses`.

    Args:
        session_class: The class of the session.
        frames: Of the checked hook.
    """
    return type(session_class.__name__, (session_class,), {"processes": _CheckedAttribute(frames)})
