"""Records how gradients are distributed."""

from collections.abc import Generator, Mapping
from typing import Any

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.run import Run
from torchbase.engine.training_step import network_of
from torchbase.intervals import Interval
from torchbase.logging_backends.histograms import log_histograms
from torchbase.techniques.parameter_patterns import parameters_that_fit


class LogGradients:
    """Records a histogram of the gradient of each parameter, as the optimizer uses it, now and then.

    For looking at gradients that vanish or explode. They are recorded right before the step: those of all mini-batches
    of the step, unscaled and clipped. The device is waited for only then.

    Example:
        >>> hook = LogGradients(every="100it")
    """

    def __init__(self, every: str | Interval = "100it", pattern: str = "*") -> None:
        """Sets how often, and of what.

        Args:
            every: After how many training iterations, e.g. ``"100it"``; where the optimizer doesn't step then, with its
                next step.
            pattern: A pattern of parameter names, e.g. ``"encoder.*"``.

        Raises:
            IntervalError: If it isn't a number of iterations.
        """
        self._every, self._pattern = Interval.parse(every, units=("it",)), pattern
        self._recorded = 0  # the iteration

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Looks whether there is something to record, before training."""
        parameters_that_fit(network_of(run), self._pattern)

    # Last, which is innermost, so that gradients are clipped already.
    @hookimpl(wrapper=True, trylast=True)
    def run_optimizer_step(self, run: Run) -> Generator[None, Any, Any]:
        """Records the gradients if it is time."""
        iteration = run.progress.iterations + 1  # that of this step, which isn't counted yet
        if iteration // self._every.count > self._recorded // self._every.count:
            self._recorded = iteration
            named = parameters_that_fit(network_of(run), self._pattern)
            gradients = {name: one.grad for name, one in named.items() if one.grad is not None}
            log_histograms(run, "gradients", gradients, "iterations", iteration)
        return (yield)

    def state_dict(self) -> dict[str, Any]:
        """Gives the iteration that was recorded last."""
        return {"recorded": self._recorded}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes the iteration that was recorded last.

        Args:
            state: What `state_dict` gave.
        """
        self._recorded = state["recorded"]
