"""How often something is done: every so many iterations, epochs or seconds."""

import re
from dataclasses import dataclass
from typing import Literal, Self

from torchbase.errors import IntervalError

Unit = Literal["it", "ep", "s"]

_TEXT = re.compile(r"(?P<count>[0-9]+(?:\.[0-9]+)?)\s*(?P<unit>it|ep|s)")
_FORM = "a number with a unit, it (iterations), ep (epochs) or s (seconds), such as '100it', '2ep' or '60s'"


@dataclass(frozen=True)
class Interval:
    """Every so many iterations, epochs or seconds.

    Attributes:
        count: How many, above 0; a whole number but for seconds.
        unit: ``"it"`` for training iterations counted over the whole run, ``"ep"`` for epochs, ``"s"`` for seconds.

    Raises:
        IntervalError: If the count or the unit is none of these.

    Example:
        >>> Interval.parse("100it")
        Interval(count=100, unit='it')
    """

    count: float
    unit: Unit

    def __post_init__(self) -> None:
        """Checks what was given."""
        if self.unit not in ("it", "ep", "s"):
            raise IntervalError(f"The unit of an interval has to be 'it', 'ep' or 's', and {self.unit!r} came.")
        is_number = isinstance(self.count, int | float) and not isinstance(self.count, bool)
        if not is_number or not 0 < self.count < float("inf"):
            raise IntervalError(f"An interval has to be longer than 0, and {self.count!r}{self.unit} came.")
        if self.unit != "s" and not isinstance(self.count, int):
            raise IntervalError(f"Iterations and epochs come in whole numbers, and {self.count!r}{self.unit} came.")

    @classmethod
    def parse(cls, given: "str | Interval", *, units: tuple[Unit, ...] = ("it", "ep", "s")) -> Self:
        """Reads an interval as a user writes it.

        Args:
            given: A number with a unit, such as ``"100it"``, ``"2ep"`` or ``"60s"``, or an interval.
            units: The units that make sense where it is used.

        Returns:
            The interval.

        Raises:
            IntervalError: If it can't be read, or has another unit.
        """
        if isinstance(given, Interval):
            interval = cls(given.count, given.unit)
        else:
            found = _TEXT.fullmatch(given.strip()) if isinstance(given, str) else None
            if found is None:
                raise IntervalError(f"An interval has to be {_FORM}, and {given!r} came.")
            count: float = float(found["count"]) if "." in found["count"] else int(found["count"])
            interval = cls(count, found["unit"])  # type: ignore[arg-type]
        if interval.unit not in units:
            raise IntervalError(f"{interval} isn't possible here. To fix, give it in {' or '.join(units)}.")
        return interval

    def __str__(self) -> str:
        return f"{self.count}{self.unit}"

    def is_due_after(self, *, iterations: int | None = None, epochs: int | None = None) -> bool:
        """Tells whether it ends with an iteration or an epoch.

        Args:
            iterations: The training iterations that are done in the whole run, where one has just ended.
            epochs: The epochs that are done, or the epoch that is being done, where it is about epochs.

        Returns:
            Whether it is counted in iterations, or in epochs, and the number given is a multiple of it.
        """
        done = iterations if self.unit == "it" else epochs if self.unit == "ep" else None
        return done is not None and done > 0 and done % self.count == 0
