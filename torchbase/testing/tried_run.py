"""A run in which a hook was tried: what came of it, and what the hooks were told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torchbase.testing.outcomes import Outcome


class Told(NamedTuple):
    """Something that the hooks were told.

    Attributes:
        event: The name of the event.
        phase: The name of the phase; ``-`` where there is none.
        number: The iteration of the phase, or the epoch, counted over the whole run.
        epoch: The epoch in which it was told.
    """

    event: str
    phase: str
    number: int
    epoch: int

    def __str__(self) -> str:
        """Names it in a message."""
        return f"{self.event} of {'epoch' if self.phase == '-' else f'{self.phase} iteration'} {self.number}"


@dataclass(frozen=True)
class TriedRun:
    """A run from its start to its end, unbroken or broken off and resumed.

    Attributes:
        outcome: What it ended with.
        told: What the hooks were told, in order.
        attributes: The plain attributes of the hook at the end.
        kept_state: The hook's state in the checkpoint that the run went on from, if any.
        restored_state: The hook's state when the run had gone on from it.
        note: How the run was broken off, where that isn't as it should be.
    """

    outcome: Outcome
    told: tuple[Told, ...]
    attributes: dict[str, Any]
    kept_state: dict[str, Any] | None = None
    restored_state: dict[str, Any] | None = None
    note: str = ""


def told_in(file: Path) -> tuple[Told, ...]:
    """Reads what a `torchbase.testing.instruments.Tally` wrote down.

    Args:
        file: Its file.

    Returns:
        What was told, in order.
    """
    rows = (line.split("\t") for line in file.read_text(encoding="utf-8").splitlines())
    return tuple(Told(event, phase, int(number), int(epoch)) for event, phase, number, epoch in rows)
