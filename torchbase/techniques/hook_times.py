"""Measures the time of each hook."""

import logging
from collections.abc import Mapping
from time import perf_counter
from typing import Self

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.run import Run
from torchbase.files.durable import write_durably

logger = logging.getLogger("torchbase")

TIMES_FILE = "hook_times.txt"


class HookTimes:
    """Measures the time that each hook takes at each event, and logs a table at the end.

    For finding the cause of slow training. The time of a call excludes calls of other hooks within it.
    ``training_step`` at ``run_forward`` is the time of the network. With a GPU, times are those of the host, which
    doesn't wait for the device. The table is also written to ``hook_times.txt`` in the run directory. For a resumed
    run, the table covers the time since it was resumed. With several processes, times are those of the main process.

    Example:
        >>> hook = HookTimes()
    """

    main_process_only = True

    def __init__(self) -> None:
        self._times: dict[tuple[str, str], list[float]] = {}  # calls, seconds
        self._within: list[float] = []  # for each open call, the seconds of the calls within it

    def observe_call(self, hook: str, event: str, is_return: bool) -> "_Clock":
        """Returns the clock for one call.

        Args:
            hook: The name of the hook.
            event: The name of the event.
            is_return: Whether the call is the part of a wrapper after its ``yield``.
        """
        times = self._times.setdefault((hook, event), [0, 0.0])
        times[0] += not is_return
        return _Clock(times, self._within)

    @hookimpl
    def on_run_start(self) -> None:
        """Resets the times."""
        self._times.clear()

    # Last, so that the table includes this event of the other hooks.
    @hookimpl(trylast=True)
    def on_run_end(self, run: Run) -> None:
        """Logs the table."""
        self._log_table(run)

    @hookimpl(trylast=True)
    def on_exception(self, run: Run) -> None:
        """Logs the table."""
        self._log_table(run)

    def _log_table(self, run: Run) -> None:
        table = _table(self._times)
        logger.info("Time of each hook:\n%s", table)
        if run.run_directory is not None:
            content = f"{table}\n".encode()
            write_durably(run.run_directory.file(TIMES_FILE), lambda file: file.write(content))


class _Clock:
    def __init__(self, times: list[float], within: list[float]) -> None:
        self._times, self._within = times, within

    def __enter__(self) -> Self:
        self._within.append(0.0)
        self._started_at = perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        seconds = perf_counter() - self._started_at
        self._times[1] += seconds - self._within.pop()
        if self._within:
            self._within[-1] += seconds


def _table(times: Mapping[tuple[str, str], list[float]]) -> str:
    head = ("hook", "event", "calls", "total ms", "µs per call")
    longest_first = sorted(times.items(), key=lambda item: -item[1][1])
    rows = [
        (hook, event, f"{calls:,.0f}", f"{seconds * 1e3:,.1f}", f"{seconds / calls * 1e6:,.1f}")
        for (hook, event), (calls, seconds) in longest_first
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) if column < 2 else cell.rjust(width) for column, (cell, width) in enumerate(cells))
        for cells in (list(zip(row, widths, strict=True)) for row in (head, *rows))
    )
