"""What the benchmarks share: sides are measured in turns, compared within each turn, and listed in a table.

The speed of a machine with other users varies. So all sides of a comparison run in one process, in turns (A B C A B C
…), and a side is compared with the reference of the same turn. The table has the median over the turns.
"""

import gc
import importlib.util
import io
import logging
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any

NOT_INSTALLED = "not installed"
NOTHING = "-"


@dataclass(frozen=True)
class Sample:
    """The result of one repetition of one side.

    Attributes:
        each: Seconds per iteration, or per unit that the benchmark counts.
        once: Seconds of the run outside of its iterations, if measured.
    """

    each: float
    once: float | None = None


@dataclass(frozen=True)
class Side:
    """A side of a comparison.

    Attributes:
        name: Its name in the table.
        measure: Runs one repetition; None if a package isn't installed.
        bound: The maximum of its additional time over the reference, in the unit of the benchmark.
        is_difference: Whether it measures the additional time over the reference directly.
    """

    name: str
    measure: Callable[[], Sample] | None
    bound: float | None = None
    is_difference: bool = False


@dataclass(frozen=True)
class Unit:
    """The unit of a benchmark.

    Attributes:
        name: Its name in a column header, e.g. ``µs per iteration``.
        in_a_second: How many of it are a second.
    """

    name: str
    in_a_second: float


MICROSECONDS_PER_ITERATION = Unit("µs per iteration", 1e6)
MILLISECONDS = Unit("ms", 1e3)


@dataclass(frozen=True)
class Outcome:
    """A measured benchmark.

    Attributes:
        title: What was measured.
        conditions: The conditions of the measurement.
        head: The column headers.
        rows: The cells, row by row.
    """

    title: str
    conditions: str
    head: list[str]
    rows: list[list[str]]

    def as_markdown(self) -> str:
        """Returns the table as aligned Markdown."""
        widths = [max(map(len, column)) for column in zip(self.head, *self.rows, strict=True)]
        lines = [self.head, ["-" * width for width in widths], *self.rows]
        table = "\n".join(
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
            for line in lines
        )
        return f"## {self.title}\n\n{self.conditions}\n\n{table}\n"


class TimedBatches:
    """Mini-batches that measure the time between two of them, without the start and the end of a run."""

    def __init__(self, batches: Sequence[Any], warm_up: int, measured: int) -> None:
        """Prepares the mini-batches of one run.

        Args:
            batches: Ready-made mini-batches, which are repeated.
            warm_up: The number of iterations before the clock starts.
            measured: The number of iterations that count. Another one follows, since some loops don't request a
                mini-batch after the last.
        """
        self._batches = [batches[position % len(batches)] for position in range(warm_up + measured + 1)]
        self._warm_up, self._measured = warm_up, measured
        self._started_at = self._ended_at = 0.0

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        yield from self._batches[: self._warm_up]
        self._started_at = self.now()
        yield from self._batches[self._warm_up : -1]
        self._ended_at = self.now()
        yield self._batches[-1]

    def now(self) -> float:
        """The seconds of a clock."""
        return time.perf_counter()

    def mini_batches(self, epoch: int, start: int) -> Iterator[Any]:
        """The mini-batches of the only epoch, so that a session takes this for a loader that seeds what it draws."""
        return iter(self)

    @property
    def seconds_per_iteration(self) -> float:
        """The time per iteration, including the loop's own work and its hooks."""
        if self._ended_at <= self._started_at:
            raise RuntimeError("The mini-batches were not read to their end, so no time was measured.")
        return (self._ended_at - self._started_at) / self._measured


def is_installed(*modules: str) -> bool:
    """Whether all of these top-level modules can be imported."""
    return all(importlib.util.find_spec(module) is not None for module in modules)


def take_turns(sides: Sequence[Side], repetitions: int) -> dict[str, list[Sample]]:
    """Measures all sides in turns, after one turn that doesn't count.

    Args:
        sides: The sides to compare.
        repetitions: The number of turns that count.

    Returns:
        The samples of each side that is installed, by its name, in the order of the turns.
    """
    samples: dict[str, list[Sample]] = {side.name: [] for side in sides if side.measure is not None}
    for _ in range(repetitions + 1):
        for side in sides:
            if side.measure is not None:
                with _undisturbed():
                    samples[side.name].append(side.measure())
    return {name: turns[1:] for name, turns in samples.items()}


def compare(title: str, conditions: str, sides: Sequence[Side], repetitions: int, unit: Unit) -> Outcome:
    """Measures all sides in turns and compares each side with the first.

    Args:
        title: What is measured.
        conditions: The conditions of the measurement.
        sides: The sides to compare, the reference first.
        repetitions: The number of turns that count.
        unit: The unit of the table.

    Returns:
        The table.
    """
    samples = take_turns(sides, repetitions)
    has_once = any(sample.once is not None for turns in samples.values() for sample in turns)
    head = ["what", f"median {unit.name}", "minimum", f"over {sides[0].name}", "bound", "met?"]
    rows = [_row(side, samples.get(side.name), samples[sides[0].name], unit, has_once) for side in sides]
    return Outcome(
        title,
        f"{conditions} {repetitions} repetitions in turns; over {sides[0].name}: the median and the quartiles of the "
        "differences within each turn, and the median of the ratios.",
        [*head, "once per run, ms"] if has_once else head,
        rows,
    )


def _row(side: Side, samples: list[Sample] | None, reference: list[Sample], unit: Unit, has_once: bool) -> list[str]:
    bound = NOTHING if side.bound is None else f"{side.bound:g}"
    if samples is None:
        return [side.name, NOT_INSTALLED, NOTHING, NOTHING, bound, NOTHING, *([NOTHING] if has_once else [])]
    each = [sample.each * unit.in_a_second for sample in samples]
    base = [sample.each * unit.in_a_second for sample in reference]
    over = each if side.is_difference else [measured - other for measured, other in zip(each, base, strict=True)]
    is_met = NOTHING if side.bound is None else ("yes" if statistics.median(over) <= side.bound else "NO")
    once = [sample.once * 1e3 for sample in samples if sample.once is not None]
    return [
        side.name,
        f"{statistics.median(each):.2f}",
        f"{min(each):.2f}",
        NOTHING if samples is reference else _describe(over, base),
        bound,
        is_met,
        *([f"{statistics.median(once):.1f}" if once else NOTHING] if has_once else []),
    ]


def _describe(over: list[float], base: list[float]) -> str:
    low, median, high = statistics.quantiles(over, n=4)
    ratio = statistics.median((other + more) / other for more, other in zip(over, base, strict=True))
    return f"{median:+.2f} ({low:.2f} to {high:.2f}), x{ratio:.2f}"


@contextmanager
def _undisturbed() -> Iterator[None]:
    # The same for each side: no garbage collection, no log messages and no progress bar during the measurement.
    gc.collect()
    gc.disable()
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
        gc.enable()
