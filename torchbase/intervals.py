"""Intervals: every n iterations, epochs or seconds."""

import re
from dataclasses import dataclass
from typing import Literal, Self

from torchbase.errors import IntervalError

Unit = Literal["it", "ep", "s"]

_TEXT = re.compile(r"(?P<count>[0-9]+(?:\.[0-9]+)?)\s*(?P<unit>it|ep|s)")
_FORM = "a number with a unit, it (iterations), ep (epochs) or s (seconds), such as '100it', '2ep' or '60s'"


@dataclass(frozen=True)
class Interval:
    """Every n iterations, epochs or seconds.

    Attributes:
        count: The number n, above 0; an integer, except for seconds.
        unit: ``"it"`` for training iterations counted over the whole run, ``"ep"`` for epochs, ``"s"`` for seconds.

    Raises:
        IntervalError: If the count or the unit is invalid.

    Example:
        >>> Interval.parse("100it")
        Interval(count=100, unit='it')
    """

    count: float
    unit: Unit

    def __post_init__(self) -> None:
        """Checks the count and the unit."""
        if self.unit not in ("it", "ep", "s"):
            raise IntervalError(f"The unit of an interval has to be 'it', 'ep' or 's', but got {self.unit!r}.")
        is_number = isinstance(self.count, int | float) and not isinstance(self.count, bool)
        if not is_number or not 0 < self.count < float("inf"):
            raise IntervalError(f"An interval has to be longer than 0 and finite, but got {self.count!r}{self.unit}.")
        if self.unit != "s" and not isinstance(self.count, int):
            raise IntervalError(
                f"An interval in iterations or epochs has to be an integer, but got {self.count!r}{self.unit}."
            )

    @classmethod
    def parse(cls, given: "str | Interval", *, units: tuple[Unit, ...] = ("it", "ep", "s")) -> Self:
        """Parses an interval as a user writes it.

        Args:
            given: A number with a unit, such as ``"100it"``, ``"2ep"`` or ``"60s"``, or an interval.
            units: The allowed units.

        Returns:
            The interval.

        Raises:
            IntervalError: If the text can't be parsed, or the unit isn't allowed.
        """
        if isinstance(given, Interval):
            interval = cls(given.count, given.unit)
        else:
            found = _TEXT.fullmatch(given.strip()) if isinstance(given, str) else None
            if found is None:
                raise IntervalError(f"An interval has to be {_FORM}, but got {given!r}.")
            count: float = float(found["count"]) if "." in found["count"] else int(found["count"])
            interval = cls(count, found["unit"])  # type: ignore[arg-type]
        if interval.unit not in units:
            raise IntervalError(f"{interval} isn't possible here. To fix, use the unit {' or '.join(units)}.")
        return interval

    def __str__(self) -> str:
        return f"{self.count}{self.unit}"

    def is_due_after(self, *, iterations: int | None = None, epochs: int | None = None) -> bool:
        """Whether the interval ends after an iteration or an epoch.

        Args:
            iterations: The number of training iterations in the whole run; None after an epoch.
            epochs: The number of epochs; None after an iteration.

        Returns:
            Whether the number in the unit of the interval is passed, above 0 and a multiple of the count.
        """
        done = iterations if self.unit == "it" else epochs if self.unit == "ep" else None
        return done is not None and done > 0 and done % self.count == 0
