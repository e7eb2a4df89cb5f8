"""Logs the distributions of weights."""

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.engine.training_step import network_of
from torchbase.intervals import Interval
from torchbase.logging_backends.histograms import log_histograms
from torchbase.techniques.parameter_patterns import matching_parameters


class LogWeights:
    """Logs histograms of the parameters at regular intervals.

    For detecting weights that grow or don't change. The hook synchronizes with the device only when it logs.

    Example:
        >>> hook = LogWeights(every="1ep")
    """

    def __init__(self, every: str | Interval = "1ep", pattern: str = "*") -> None:
        """Sets the interval and the parameters.

        Args:
            every: The interval in epochs (``"1ep"``) or training iterations (``"100it"``).
            pattern: A pattern of parameter names, e.g. ``"encoder.*"``.

        Raises:
            IntervalError: If the interval is in neither.
        """
        self._every, self._pattern = Interval.parse(every, units=("it", "ep")), pattern

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Checks before training that the pattern matches parameters."""
        matching_parameters(network_of(run), self._pattern)

    @hookimpl
    def on_iteration_end(self, run: Run, phase: Phase) -> None:
        """Logs the parameters after an iteration if they are due."""
        if phase.is_training and self._every.is_due_after(iterations=phase.progress.iterations):
            self._log(run, "iterations", phase.progress.iterations)

    @hookimpl
    def on_epoch_end(self, run: Run) -> None:
        """Logs the parameters after an epoch if they are due."""
        if self._every.is_due_after(epochs=run.epochs_done):
            self._log(run, "epochs", run.epochs_done)

    def _log(self, run: Run, unit: str, step: int) -> None:
        log_histograms(run, "weights", matching_parameters(network_of(run), self._pattern), unit, step)
