"""Computes the chosen metrics of mini-batches."""

from torchbase.hookspecs import hookimpl
from torchbase.run import Phase, Run


class IterationMetrics:
    """Computes the metrics of every mini-batch in validation, and of every n-th in training."""

    def __init__(self, every_n_iterations: int = 10) -> None:
        """Sets how often.

        Args:
            every_n_iterations: Of how many training iterations one is measured; the first of each epoch is.
        """
        self._every_n_iterations = every_n_iterations

    @hookimpl
    def on_iteration_end(self, run: Run, phase: Phase) -> None:
        """Adds the metrics to the values of the iteration."""
        if run.metrics is None or phase.outputs is None:
            return
        if not phase.is_training or (phase.progress.mini_batches - 1) % self._every_n_iterations == 0:
            phase.values.update(run.metrics(phase.outputs))
