"""What the loop itself costs: an engine with an empty step, with and without hooks."""

import time
from collections.abc import Callable
from typing import Any

from measuring import MICROSECONDS_PER_ITERATION, Outcome, Sample, Side, compare, is_installed

from torchbase import Engine, Phase, Run, hookimpl

ITERATIONS = 20_000
REPETITIONS = 15
HOOKS = 5
BOUND_WITHOUT_HOOKS = 5.0
BOUND_WITH_HOOKS = 9.0
BATCHES = [None] * ITERATIONS


def measure() -> Outcome:
    """Measures the engine, a bare for-loop, and Ignite's engine."""
    has_ignite = is_installed("ignite")
    sides = [
        Side("the bare for-loop", measure_bare_loop),
        Side("torchbase Engine, no hook", lambda: measure_engine(hooks=0), BOUND_WITHOUT_HOOKS),
        Side(f"torchbase Engine, {HOOKS} hooks on on_iteration_end", lambda: measure_engine(HOOKS), BOUND_WITH_HOOKS),
        Side("Ignite Engine, no handler", (lambda: measure_ignite(handlers=0)) if has_ignite else None),
        Side(
            f"Ignite Engine, {HOOKS} handlers on ITERATION_COMPLETED",
            (lambda: measure_ignite(HOOKS)) if has_ignite else None,
        ),
    ]
    return compare(
        "engine_overhead: an empty step",
        f"{ITERATIONS:,} iterations over ready-made mini-batches.",
        sides,
        REPETITIONS,
        MICROSECONDS_PER_ITERATION,
    )


class IdleHook:
    """A hook that is called at every iteration and does nothing."""

    @hookimpl
    def on_iteration_end(self, run: Run, phase: Phase) -> None:
        """Does nothing."""


def step(run: Run, phase: Phase, batch: Any) -> None:
    """Does nothing with a mini-batch."""


def measure_bare_loop() -> Sample:
    """Calls the step in a for-loop."""
    run = new_run()
    phase = run.training

    def loop() -> None:
        for batch in BATCHES:
            step(run, phase, batch)

    return clock(loop)


def measure_engine(hooks: int) -> Sample:
    """Measures torchbase's engine.

    Args:
        hooks: The number of idle hooks.
    """
    engine, run = Engine(step), new_run()
    for number in range(hooks):
        engine.register(IdleHook(), name=f"idle-{number}")
    return clock(lambda: engine.run(run))


def measure_ignite(handlers: int) -> Sample:
    """Measures Ignite's engine.

    Args:
        handlers: The number of idle handlers.
    """
    from ignite.engine import Engine as IgniteEngine
    from ignite.engine import Events

    engine = IgniteEngine(lambda engine, batch: None)
    for _ in range(handlers):
        engine.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: None)
    return clock(lambda: engine.run(BATCHES, max_epochs=1))


def new_run() -> Run:
    """Creates a run of one epoch."""
    return Run(training=Phase("training", BATCHES, is_training=True), max_epochs=1)


def clock(run: Callable[[], object]) -> Sample:
    """Measures the time of a whole run over all mini-batches."""
    started_at = time.perf_counter()
    run()
    return Sample((time.perf_counter() - started_at) / ITERATIONS)
