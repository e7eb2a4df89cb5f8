"""Records how weights are distributed."""

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.engine.training_step import network_of
from torchbase.intervals import Interval
from torchbase.logging_backends.histograms import log_histograms
from torchbase.techniques.parameter_patterns import parameters_that_fit


class LogWeights:
    """Records a histogram of each parameter, now and then.

    For looking at weights that grow, or that don't move. The device is waited for only then.

    Example:
        >>> hook = LogWeights(every="1ep")
    """

    def __init__(self, every: str | Interval = "1ep", pattern: str = "*") -> None:
        """Sets how often, and of what.

        Args:
            every: Behind how many epochs (``"1ep"``) or training iterations (``"100it"``).
            pattern: A pattern of parameter names, e.g. ``"encoder.*"``.

        Raises:
            IntervalError: If it is neither.
        """
        self._every, self._pattern = Interval.parse(every, units=("it", "ep")), pattern

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Looks whether there is something to record, before training."""
        parameters_that_fit(network_of(run), self._pattern)

    @hookimpl
    def on_iteration_end(self, run: Run, phase: Phase) -> None:
        """Records behind an iteration, if it is time."""
        if phase.is_training and self._every.is_due_after(iterations=phase.progress.iterations):
            self._record(run, "iterations", phase.progress.iterations)

    @hookimpl
    def on_epoch_end(self, run: Run) -> None:
        """Records behind an epoch, if it is time."""
        if self._every.is_due_after(epochs=run.epochs_done):
            self._record(run, "epochs", run.epochs_done)

    def _record(self, run: Run, unit: str, step: int) -> None:
        log_histograms(run, "weights", parameters_that_fit(network_of(run), self._pattern), unit, step)
