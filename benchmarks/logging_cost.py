"""What logging backends cost an iteration: the preset with each of them, and with none.

Each has a thread of its own that writes in blocks, twice a second, so the clock runs for many blocks: what the thread
takes of the interpreter counts, too. What is left to write at the end is part of what a run takes once.
"""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import preset_overhead
from measuring import MICROSECONDS_AN_ITERATION, Outcome, Sample, Side, TimedBatches, compare

from torchbase.hooks import CsvLog, JsonLines, TensorBoard

WARM_UP = 64
ITERATIONS = 8192
REPETITIONS = 9
BOUND = 25.0


def measure() -> Outcome:
    """Measures all backends."""
    sides = [
        Side("no backend", lambda: clock(None)),
        Side("TensorBoard", lambda: clock(TensorBoard), BOUND),
        Side("JsonLines", lambda: clock(JsonLines), BOUND),
        Side("CsvLog", lambda: clock(CsvLog), BOUND),
    ]
    return compare(
        "logging_cost: the loss of every iteration, by backend",
        f"The preset and network of preset_overhead; {ITERATIONS:,} iterations after {WARM_UP} that don't count.",
        sides,
        REPETITIONS,
        MICROSECONDS_AN_ITERATION,
    )


def clock(backend: Callable[[], object] | None) -> Sample:
    """Takes the time of an iteration with a backend, and of the rest of the run."""
    batches = TimedBatches(preset_overhead.READY_MADE, WARM_UP, ITERATIONS)
    with TemporaryDirectory() as folder:
        began_at = perf_counter()
        session = preset_overhead.SmallSession(preset_overhead.CONFIG, Path(folder))
        session.ready_made = batches
        session.unregister("tensorboard")
        if backend is not None:
            session.register(backend())
        session()
        whole = perf_counter() - began_at
    each = batches.seconds_an_iteration
    return Sample(each, whole - each * len(batches))
