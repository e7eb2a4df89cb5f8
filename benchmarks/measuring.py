"""What the benchmarks share: sides that are measured in turns, compared pair by pair, and told in a table.

A machine that others use too is now faster, now slower. So all sides of a comparison run in one process, in turns
(A B C A B C …), and a side is compared with the reference of the same turn; what is told is the median over the turns.
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
    """What one repetition of one side gave.

    Attributes:
        each: Seconds an iteration, or whatever it is that the benchmark counts.
        once: Seconds that the run took beside its iterations, where that was measured.
    """

    each: float
    once: float | None = None


@dataclass(frozen=True)
class Side:
    """One of those that are compared.

    Attributes:
        name: What it is, for the table.
        measure: Does one repetition; None where what it needs is not installed.
        bound: How much it may take more than the reference, in the unit of the benchmark.
        is_difference: Whether what it measures is already what comes on top of the reference.
    """

    name: str
    measure: Callable[[], Sample] | None
    bound: float | None = None
    is_difference: bool = False


@dataclass(frozen=True)
class Unit:
    """In what a benchmark is told.

    Attributes:
        name: For the head of a column, e.g. ``µs an iteration``.
        in_a_second: How many of it a second has.
    """

    name: str
    in_a_second: float


MICROSECONDS_AN_ITERATION = Unit("µs an iteration", 1e6)
MILLISECONDS = Unit("ms", 1e3)


@dataclass(frozen=True)
class Outcome:
    """A measured benchmark.

    Attributes:
        title: What was measured.
        conditions: How, in words.
        head: The heads of the columns.
        rows: The cells, row by row.
    """

    title: str
    conditions: str
    head: list[str]
    rows: list[list[str]]

    def as_markdown(self) -> str:
        """Gives the table, aligned so that it can be read as it is."""
        widths = [max(map(len, column)) for column in zip(self.head, *self.rows, strict=True)]
        lines = [self.head, ["-" * width for width in widths], *self.rows]
        table = "\n".join(
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
            for line in lines
        )
        return f"## {self.title}\n\n{self.conditions}\n\n{table}\n"


class TimedBatches:
    """Mini-batches that take the time between two of them, so that the beginning and the end of a run don't count."""

    def __init__(self, batches: Sequence[Any], warm_up: int, measured: int) -> None:
        """Prepares the mini-batches of one run.

        Args:
            batches: Ready-made mini-batches, given again and again.
            warm_up: How many iterations are done before the clock starts.
            measured: How many iterations count. One more follows, since some loops never ask for what isn't there.
        """
        self._batches = [batches[position % len(batches)] for position in range(warm_up + measured + 1)]
        self._warm_up, self._measured = warm_up, measured
        self._began_at = self._ended_at = 0.0

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        yield from self._batches[: self._warm_up]
        self._began_at = time.perf_counter()
        yield from self._batches[self._warm_up : -1]
        self._ended_at = time.perf_counter()
        yield self._batches[-1]

    @property
    def seconds_an_iteration(self) -> float:
        """How long an iteration took, the loop's own work and what its hooks did included."""
        if self._ended_at <= self._began_at:
            raise RuntimeError("The mini-batches were not gone through to their end, so there is no time to tell.")
        return (self._ended_at - self._began_at) / self._measured


def is_installed(*modules: str) -> bool:
    """Tells whether all of these top-level modules can be imported."""
    return all(importlib.util.find_spec(module) is not None for module in modules)


def take_turns(sides: Sequence[Side], repetitions: int) -> dict[str, list[Sample]]:
    """Measures all sides in turns, after one turn that doesn't count.

    Args:
        sides: Those to compare.
        repetitions: How many turns count.

    Returns:
        The samples of each side that is installed, by its name, in the order of the turns.
    """
    samples: dict[str, list[Sample]] = {side.name: [] for side in sides if side.measure is not None}
    for _ in range(repetitions + 1):
        for side in sides:
            if side.measure is not None:
                with _undisturbed():
                    samples[side.name].append(side.measure())
    return {name: given[1:] for name, given in samples.items()}


def compare(title: str, conditions: str, sides: Sequence[Side], repetitions: int, unit: Unit) -> Outcome:
    """Measures all sides in turns and compares each with the first one.

    Args:
        title: What is measured.
        conditions: How, in words.
        sides: Those to compare, the reference first.
        repetitions: How many turns count.
        unit: In what to tell it.

    Returns:
        The table.
    """
    samples = take_turns(sides, repetitions)
    has_once = any(sample.once is not None for given in samples.values() for sample in given)
    head = ["what", f"median {unit.name}", "minimum", f"over {sides[0].name}", "bound", "met?"]
    rows = [_row(side, samples.get(side.name), samples[sides[0].name], unit, has_once) for side in sides]
    return Outcome(
        title,
        f"{conditions} {repetitions} repetitions in turns; over {sides[0].name}: the median of the differences turn by "
        "turn, their quartiles, and the median of the ratios.",
        [*head, "once a run, ms"] if has_once else head,
        rows,
    )


def _row(side: Side, samples: list[Sample] | None, reference: list[Sample], unit: Unit, has_once: bool) -> list[str]:
    bound = NOTHING if side.bound is None else f"{side.bound:g}"
    if samples is None:
        return [side.name, NOT_INSTALLED, NOTHING, NOTHING, bound, NOTHING, *([NOTHING] if has_once else [])]
    each = [sample.each * unit.in_a_second for sample in samples]
    base = [sample.each * unit.in_a_second for sample in reference]
    over = each if side.is_difference else [one - other for one, other in zip(each, base, strict=True)]
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
    # Every side alike: no garbage collection while the clock runs, no lines, and no bar, for want of a terminal.
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
