"""How much time a hook takes."""

import gc
import statistics
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchbase.testing.instruments import Clock
from torchbase.testing.tiny_session import NoisySession
from torchbase.testing.trial import HookTrial

TURNS = 5
ITERATIONS = 100


@dataclass(frozen=True)
class Overhead:
    """The time that a hook adds to a training iteration.

    Attributes:
        microseconds: How much longer an iteration takes with the hook, in µs. It compares the fastest tenth of all
            turns with the hook to that without it, since other programs can only slow down an iteration.
        low: The lower quartile of the differences of single turns; far from ``microseconds`` if other programs
            disturbed the measurement.
        high: The upper quartile.
        without: The time of an iteration without the hook, in µs.
        iterations: The number of timed iterations per turn, with the hook and without it.
        turns: The number of turns.
    """

    microseconds: float
    low: float
    high: float
    without: float
    iterations: int
    turns: int

    def __str__(self) -> str:
        """Formats the overhead in one line."""
        return (
            f"{self.microseconds:+.1f} µs per iteration on top of {self.without:.0f} µs (quartiles of the turns: "
            f"{self.low:+.1f} to {self.high:+.1f}; {self.turns} turns of {self.iterations} iterations)"
        )


def measure_overhead(trial: HookTrial, turns: int = TURNS) -> Overhead:
    """Measures the time of training iterations with and without the hook, in turns.

    The tiny session has more samples than in the checks. What the hook does between two phases isn't measured.

    Args:
        trial: The runs of the hook.
        turns: The number of turns that count, at least 2; one more turn precedes them.

    Returns:
        The time that the hook adds to an iteration. Print it, but don't assert on it: it depends on the machine.
    """
    if trial.session_class is NoisySession:
        trial = HookTrial(trial.make_hook, config=_longer(trial.config))
    with _without_garbage_collection():
        pairs = [(_time(trial, with_hook=False), _time(trial, with_hook=True)) for _ in range(turns + 1)][1:]
    without = [pair[0].microseconds for pair in pairs]
    with_hook = [pair[1].microseconds for pair in pairs]
    low, _, high = statistics.quantiles([more - less for more, less in zip(with_hook, without, strict=True)], n=4)
    return Overhead(min(with_hook) - min(without), low, high, min(without), len(pairs[0][0].seconds), turns)


def _longer(config: Mapping[str, Any]) -> dict[str, Any]:
    session = {**config["session"], "num_epochs": 1}
    samples = ITERATIONS * session["mini_batch_size"]
    return {**config, "session": session, "data": {**config.get("data", {}), "training_samples": samples}}


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _time(trial: HookTrial, *, with_hook: bool) -> Clock:
    clock = Clock()
    with tempfile.TemporaryDirectory(prefix="torchbase-hook-", ignore_cleanup_errors=True) as folder:
        trial.session(Path(folder), [*([trial.make_hook()] if with_hook else []), clock])()
    return clock
