"""Ends a run when its time is over."""

import time
from collections.abc import Mapping
from typing import Any

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.run import Run
from torchbase.intervals import Interval


class TimeLimit:
    """Ends the run between two iterations when it has taken a certain time, with everything that was learnt kept.

    For a machine that is lent for some hours, or for comparing methods by what they learn in the same time. The time of
    a run that was stopped and resumed is that of all its parts together; what a killed one did since its last
    checkpoint doesn't count, as it is done again. A run whose time is over goes on when it is resumed with more.

    Example:
        >>> hook = TimeLimit("3600s")
    """

    def __init__(self, limit: str | Interval) -> None:
        """Sets the time.

        Args:
            limit: The time from the start of the first epoch, in seconds, e.g. ``"3600s"``.

        Raises:
            IntervalError: If it isn't a number of seconds.
        """
        self._limit = Interval.parse(limit, units=("s",))
        self._seconds_before = 0.0
        self._started_at: float | None = None

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Starts the clock; a run that has no time left does nothing."""
        self._started_at = time.monotonic()
        self._stop_if_over(run)

    @hookimpl
    def on_iteration_end(self, run: Run) -> None:
        """Looks at the clock."""
        self._stop_if_over(run)

    @hookimpl
    def on_run_end(self) -> None:
        """Stops the clock."""
        self._seconds_before, self._started_at = self._seconds(), None

    def state_dict(self) -> dict[str, Any]:
        """Gives the seconds that the run has taken."""
        return {"seconds": self._seconds()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes the seconds that the run has taken before it was resumed.

        Args:
            state: What `state_dict` gave.
        """
        self._seconds_before = state["seconds"]

    def _seconds(self) -> float:
        now = 0.0 if self._started_at is None else time.monotonic() - self._started_at
        return self._seconds_before + now

    def _stop_if_over(self, run: Run) -> None:
        if self._seconds() >= self._limit.count:
            run.request_stop(f"its time of {self._limit} is over")
