"""Passes the values of a run to the logging backends."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.iteration_values import IterationValues
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.intervals import Interval


class LogValues:
    """Logs values of iterations, averages of epochs, hyperparameters and the lowest losses."""

    def __init__(self, every: str | Interval = "1it") -> None:
        """Sets how often values of iterations are logged.

        Args:
            every: The interval in iterations, e.g. ``"10it"`` for iterations 1, 11, 21 and so on.

        Raises:
            IntervalError: If the interval is invalid, or is not in iterations.
        """
        self._every = Interval.parse(every, units=("it",)).count

    @hookimpl
    def on_values_read(self, run: Run, phase: Phase, rows: Sequence[IterationValues]) -> None:
        """Logs the values of a block of iterations, each at its own step."""
        for row in rows:
            if (row.iteration - 1) % self._every == 0:
                scalars = {phase.tag(name, "iterations"): value for name, value in row.values.items()}
                run.call.log_scalars(run=run, scalars=scalars, step=row.iteration)

    @hookimpl
    def on_phase_end(self, run: Run, phase: Phase) -> None:
        """Logs the averages of a phase."""
        unit, step = run.curve(phase)
        scalars = {phase.tag(name, unit): value for name, value in phase.averages.items()}
        if scalars:
            run.call.log_scalars(run=run, scalars=scalars, step=step)

    @hookimpl
    def on_exception(self, run: Run, error: BaseException) -> None:
        """Logs the values of the last iterations before the error."""
        for phase in run.phases:
            try:
                self.on_values_read(run, phase, phase.block.read())
            except RuntimeError as read_error:  # values can't be read from a device that failed
                error.add_note(f"the last values of {phase.name} could not be read: {read_error}")

    @hookimpl
    def on_run_end(self, run: Run) -> None:
        """Logs the hyperparameters and the lowest losses."""
        metrics = {f"{name}/best_loss/epochs": best.loss for name, best in run.best_losses.items()}
        if metrics:
            run.call.log_scalars(run=run, scalars=metrics, step=run.epochs_done)
        run.call.log_hparams(run=run, hparams=dict(_flatten(run.config)), metrics=metrics)


def _flatten(config: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str | int | float | bool]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{path}{key}.")
        elif isinstance(value, str | int | float | bool):
            yield f"{path}{key}", value
        elif value is not None:
            yield f"{path}{key}", str(value)
