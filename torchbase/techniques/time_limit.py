"""Stops a run after a time limit."""

from collections.abc import Mapping
from typing import Any

from torchbase.distributed.processes import Processes
from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.run import Run
from torchbase.intervals import Interval


class TimeLimit:
    """Stops the run between two iterations when a time limit is reached.

    For a job with limited time, or for comparing methods with the same training time. The state is saved as at any
    other stop. For a resumed run, the time of all its parts counts. The time of a killed run after its last checkpoint
    doesn't count, because that part is repeated. A stopped run continues when it is resumed with a higher limit. With
    several processes, the clock of the main process counts.

    Example:
        >>> hook = TimeLimit("3600s")
    """

    def __init__(self, limit: str | Interval) -> None:
        """Sets the limit.

        Args:
            limit: The time from the start of the first epoch, in seconds, e.g. ``"3600s"``.

        Raises:
            IntervalError: If the limit isn't in seconds.
        """
        self._limit = Interval.parse(limit, units=("s",))
        self._seconds_before = 0.0
        self._started_at = 0.0
        self._processes: Processes | None = None  # of the run that is going on

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Starts the clock, and requests a stop at once if no time is left."""
        self._processes, self._started_at = run.processes, run.processes.now()
        self._check_limit(run)

    @hookimpl
    def on_iteration_end(self, run: Run) -> None:
        """Checks the clock."""
        self._check_limit(run)

    @hookimpl
    def on_run_end(self) -> None:
        """Stops the clock."""
        self._seconds_before, self._processes = self._seconds(), None

    def state_dict(self) -> dict[str, Any]:
        """Returns the seconds that the run has taken."""
        return {"seconds": self._seconds()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the seconds that the run took before it was resumed.

        Args:
            state: The return value of `state_dict`.
        """
        self._seconds_before = state["seconds"]

    def _seconds(self) -> float:
        seconds = 0.0 if self._processes is None else self._processes.now() - self._started_at
        return self._seconds_before + seconds

    def _check_limit(self, run: Run) -> None:
        if self._seconds() >= self._limit.count:
            run.request_stop(f"the time limit of {self._limit} is reached")
