"""Warns of hooks that wait for an event which never fires."""

import logging
from collections.abc import Set
from typing import Protocol, runtime_checkable

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.engine.training_step import TrainingStep
from torchbase.listeners import without_wrappers

logger = logging.getLogger("torchbase")

OWN_LOOP = ("engine", "training_step", "mini_batch_parts")  # the hooks of torchbase that run phases and iterations
STEP = "run_optimizer_step"
EVENTS_OF_A_TRAINING_ITERATION = (
    "on_iteration_start",
    "run_iteration",
    "run_forward",
    "on_loss_computed",
    "run_backward",
    "on_gradients_ready",
    "should_step_optimizer",
    STEP,
    "on_iteration_end",
)


@runtime_checkable
class HasUnusedEvents(Protocol):
    """A hook that implements events which it doesn't need with its settings."""

    @property
    def unused_events(self) -> Set[str]:
        """The names of these events."""


class UncalledHooks:
    """Warns, once, of hooks that wait for an event of a training iteration which never fires.

    A hook that implements ``run_iteration`` has to fire the events of an iteration that other hooks wait for. If it
    steps the optimizer by itself, for example, gradients aren't clipped and weights aren't averaged. The events are
    compared after the first training iterations, when their values are read, and at the latest after the first training
    phase.
    """

    def __init__(self) -> None:
        self._expected: set[str] = set()
        self._resumed_at: int | None = None

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Expects all events."""
        self._expected = set(EVENTS_OF_A_TRAINING_ITERATION)
        self._resumed_at = run.progress.iterations or None

    @hookimpl
    def on_values_read(self, run: Run, phase: Phase) -> None:
        """Compares the events after the first iterations."""
        # Gradients may be accumulated over more iterations than these, so a step isn't expected yet.
        if self._expected and phase.is_training:
            self._compare(run, self._expected - {STEP} if "should_step_optimizer" in run.fired_events else None)

    @hookimpl
    def on_phase_end(self, run: Run, phase: Phase) -> None:
        """Compares the events after the first training phase."""
        if self._expected and phase.is_training and not self._has_only_resumed(run):
            self._compare(run)

    @hookimpl
    def on_epoch_end(self, run: Run) -> None:
        """Compares the events after an epoch of which another hook runs the phases."""
        if self._expected and not self._has_only_resumed(run):
            self._compare(run)

    def _has_only_resumed(self, run: Run) -> bool:
        # A run that resumes after the last iteration of an epoch ends this epoch without another one.
        return run.progress.iterations == self._resumed_at

    def _compare(self, run: Run, expected: set[str] | None = None) -> None:
        expected = self._expected if expected is None else expected
        self._expected = self._expected - expected
        missing = [one for one in EVENTS_OF_A_TRAINING_ITERATION if one in expected and one not in run.fired_events]
        uncalled = {event: hooks for event in missing if (hooks := _waiting_for(event, run))}
        if uncalled:
            logger.warning(
                "After %d training iterations these events have not fired, and hooks wait for them: %s. %s",
                run.progress.iterations,
                "; ".join(f"{event} ({', '.join(map(repr, hooks))})" for event, hooks in uncalled.items()),
                _describe_cause(run, last_event=[*uncalled][-1]),
            )


def _waiting_for(event: str, run: Run) -> list[str]:
    hooks = {listener.name: run.hooks[listener.name] for listener in run.listeners[event]}
    return [
        name
        for name, hook in hooks.items()
        if not isinstance(hook, TrainingStep)
        and not (isinstance(hook, HasUnusedEvents) and event in hook.unused_events)
    ]


def _describe_cause(run: Run, last_event: str) -> str:
    for event in ("run_phase", "run_iteration"):
        for name in without_wrappers(run.listeners[event]):
            if name not in OWN_LOOP:
                return (
                    f"'{name}' implements {event}. To fix, fire the events there, such as "
                    f"run.call.{last_event}(…), or unregister the hooks that wait for them."
                )
    return (
        "Another hook prevents them, for example if it returns False from should_step_optimizer or skips mini-batches. "
        "To fix, change it, or unregister the hooks that wait."
    )
