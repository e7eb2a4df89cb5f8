"""A run in which a hook was tried: its outcome, and the events that fired."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torchbase.testing.outcomes import Outcome


class FiredEvent(NamedTuple):
    """An event that fired.

    Attributes:
        event: The name of the event.
        phase: The name of the phase; ``-`` without one.
        number: The iteration of the phase, or the epoch, counted over the whole run.
        epoch: The epoch in which it fired.
    """

    event: str
    phase: str
    number: int
    epoch: int

    def __str__(self) -> str:
        """Formats the event for a message."""
        return f"{self.event} of {'epoch' if self.phase == '-' else f'{self.phase} iteration'} {self.number}"


@dataclass(frozen=True)
class TriedRun:
    """A run from its start to its end, uninterrupted or interrupted and resumed.

    Attributes:
        outcome: The results of the run.
        events: The events that fired, in order.
        attributes: The plain attributes of the hook at the end.
        saved_state: The hook's state in the checkpoint from which the run resumed, if any.
        restored_state: The hook's state after the run resumed.
        note: Why the run was interrupted in another way than intended, if so.
    """

    outcome: Outcome
    events: tuple[FiredEvent, ...]
    attributes: dict[str, Any]
    saved_state: dict[str, Any] | None = None
    restored_state: dict[str, Any] | None = None
    note: str = ""


def read_events(file: Path) -> tuple[FiredEvent, ...]:
    """Reads the events that a `torchbase.testing.instruments.EventLog` wrote.

    Args:
        file: Its file.

    Returns:
        The events in order.
    """
    rows = (line.split("\t") for line in file.read_text(encoding="utf-8").splitlines())
    return tuple(FiredEvent(event, phase, int(number), int(epoch)) for event, phase, number, epoch in rows)
