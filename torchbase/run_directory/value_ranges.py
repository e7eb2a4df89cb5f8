"""The last, lowest and highest value of each average over the epochs of a run."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from torchbase.files.json_values import finite_or_text


class Averages(Protocol):
    """The averages of a phase in an epoch, such as a `torchbase.run_directory.record.Epoch`."""

    @property
    def phase(self) -> str:
        """The name of the phase."""

    @property
    def epoch(self) -> int:
        """The epoch; the first is 1."""

    @property
    def averages(self) -> Mapping[str, float]:
        """The averages by name."""


class ValueRange(NamedTuple):
    """A value over the epochs of a run. NaN is the lowest and highest only if there is no other value.

    Attributes:
        last: The last value.
        last_epoch: Its epoch; the first is 1.
        lowest: The lowest value.
        lowest_epoch: The first epoch in which it was measured.
        highest: The highest value.
        highest_epoch: The first epoch in which it was measured.
    """

    last: float
    last_epoch: int
    lowest: float
    lowest_epoch: int
    highest: float
    highest_epoch: int


ValueRanges = Mapping[str, Mapping[str, ValueRange]]
"""The ranges by the name of the phase, and the name of the value."""


def extend(ranges: ValueRanges, epochs: Iterable[Averages]) -> dict[str, dict[str, ValueRange]]:
    """Adds averages to ranges.

    Args:
        ranges: The ranges so far.
        epochs: The averages that follow, in the order in which they were measured.

    Returns:
        The ranges with the averages.
    """
    extended = {phase: dict(of_phase) for phase, of_phase in ranges.items()}
    for epoch in epochs:
        of_phase = extended.setdefault(epoch.phase, {})
        for name, value in epoch.averages.items():
            of_phase[name] = _extended(of_phase.get(name), value, epoch.epoch)
    return extended


def to_json(ranges: ValueRanges) -> dict[str, dict[str, dict[str, object]]]:
    """Converts ranges to JSON form.

    Args:
        ranges: The ranges.
    """
    return {
        phase: {
            name: {field: finite_or_text(value) for field, value in one._asdict().items()}
            for name, one in of_phase.items()
        }
        for phase, of_phase in ranges.items()
    }


def from_json(value: Any) -> dict[str, dict[str, ValueRange]]:
    """Converts ranges from JSON form.

    Args:
        value: The return value of `to_json`, from a file.

    Returns:
        The ranges.

    Raises:
        Exception: KeyError, TypeError, ValueError or AttributeError, if the value has another form.
    """
    return {
        phase: {
            name: ValueRange(
                float(one["last"]),
                int(one["last_epoch"]),
                float(one["lowest"]),
                int(one["lowest_epoch"]),
                float(one["highest"]),
                int(one["highest_epoch"]),
            )
            for name, one in of_phase.items()
        }
        for phase, of_phase in value.items()
    }


def _extended(one: ValueRange | None, value: float, epoch: int) -> ValueRange:
    if one is None:
        return ValueRange(value, epoch, value, epoch, value, epoch)
    is_lower = value < one.lowest or (math.isnan(one.lowest) and not math.isnan(value))
    is_higher = value > one.highest or (math.isnan(one.highest) and not math.isnan(value))
    return ValueRange(
        value,
        epoch,
        *((value, epoch) if is_lower else (one.lowest, one.lowest_epoch)),
        *((value, epoch) if is_higher else (one.highest, one.highest_epoch)),
    )
