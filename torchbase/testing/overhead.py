"""What a hook costs."""

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
ITERATIONS = 150


@dataclass(frozen=True)
class Overhead:
    """What a hook costs a training iteration.

    Attributes:
        microseconds: How much longer an iteration takes with the hook, in µs: the fastest tenth of all turns with it
            over the fastest without it, since other programs only make something slower.
        low: The lower quartile of the same turn by turn; far from it where other programs disturbed.
        high: The upper quartile.
        without: An iteration without the hook, in µs.
        iterations: How many iterations were timed in each turn, with the hook and without it.
        turns: How many turns there were.
    """

    microseconds: float
    low: float
    high: float
    without: float
    iterations: int
    turns: int

    def __str__(self) -> str:
        """A line."""
        return (
            f"{self.microseconds:+.1f} µs an iteration over {self.without:.0f} µs without it (turn by turn, quartiles: "
            f"{self.low:+.1f} to {self.high:+.1f}; {self.turns} turns of {self.iterations} iterations)"
        )


def measure_overhead(trial: HookTrial, turns: int = TURNS) -> Overhead:
    """Takes the time of training iterations with the hook and without it, in turns.

    In the tiny session there are more samples than otherwise. What the hook does between two phases isn't in it.

    Args:
        trial: The runs of the hook.
        turns: How many turns count, at least 2; one more comes before them.

    Returns:
        The time that an iteration takes more with the hook. To be printed, and not to be asserted: it is another on
        each machine.
    """
    if trial.session_class is NoisySession:
        trial = HookTrial(trial.make_hook, config=_longer(trial.config))
    with _no_garbage_collected():
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
def _no_garbage_collected() -> Iterator[None]:
    gc.collect()
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _time(trial: HookTrial, *, with_hook: bool) -> Clock:
    clock = Clock()
    with tempfile.TemporaryDirectory(prefix="torchbase-hook-", ignore_cleanup_errors=True) as folder:
        trial.session(Path(folder), [*([trial.make_hook()] if with_hook else []), clock])()
    return clock
