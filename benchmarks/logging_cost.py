"""What logging backends cost per iteration: the preset with each backend, and without one.

Each backend has a thread, which writes in blocks, twice a second. The measurement includes many blocks, so that the
interpreter time of the thread counts, too. What remains to be written at the end counts as the time per run.
"""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import preset_overhead
from measuring import MICROSECONDS_PER_ITERATION, Outcome, Sample, Side, TimedBatches, compare

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
        f"The preset and network of preset_overhead; {ITERATIONS:,} iterations after {WARM_UP} for warming up.",
        sides,
        REPETITIONS,
        MICROSECONDS_PER_ITERATION,
    )


def clock(backend: Callable[[], object] | None) -> Sample:
    """Measures the time of an iteration with a backend, and of the rest of the run."""
    batches = TimedBatches(preset_overhead.READY_MADE, WARM_UP, ITERATIONS)
    with TemporaryDirectory() as folder:
        started_at = perf_counter()
        session = preset_overhead.SmallSession(preset_overhead.CONFIG, Path(folder))
        session.ready_made = batches
        session.unregister("tensorboard")
        if backend is not None:
            session.register(backend())
        session()
        whole = perf_counter() - started_at
    each = batches.seconds_per_iteration
    return Sample(each, whole - each * len(batches))
