"""Logs the distributions of gradients."""

from collections.abc import Generator, Mapping
from typing import Any

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.run import Run
from torchbase.engine.training_step import network_of
from torchbase.intervals import Interval
from torchbase.logging_backends.histograms import log_histograms
from torchbase.techniques.parameter_patterns import matching_parameters


class LogGradients:
    """Logs histograms of the gradients at regular intervals.

    For detecting vanishing or exploding gradients. Gradients are logged right before the optimizer step, after they are
    accumulated, unscaled and clipped. The hook synchronizes with the device only when it logs.

    Example:
        >>> hook = LogGradients(every="100it")
    """

    def __init__(self, every: str | Interval = "100it", pattern: str = "*") -> None:
        """Sets the interval and the parameters.

        Args:
            every: The interval in training iterations, e.g. ``"100it"``. If the optimizer doesn't step in that
                iteration, the gradients of its next step are logged.
            pattern: A pattern of parameter names, e.g. ``"encoder.*"``.

        Raises:
            IntervalError: If the interval isn't in iterations.
        """
        self._every, self._pattern = Interval.parse(every, units=("it",)), pattern
        self._last_logged: dict[str | None, int] = {None: 0}  # the iteration, by turn

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Checks before training that the pattern matches parameters."""
        matching_parameters(network_of(run), self._pattern)

    # Last, so that this is the innermost wrapper, and gradients are already clipped.
    @hookimpl(wrapper=True, trylast=True)
    def run_optimizer_step(self, run: Run) -> Generator[None, Any, Any]:
        """Logs the gradients if they are due."""
        iteration = run.progress.iterations + 1  # the current iteration isn't counted yet
        if iteration // self._every.count > self._last_logged.get(run.turn, 0) // self._every.count:
            self._last_logged[run.turn] = iteration
            named = matching_parameters(network_of(run), self._pattern)
            gradients = {name: parameter.grad for name, parameter in named.items() if parameter.grad is not None}
            log_histograms(run, "gradients", gradients, "iterations", iteration)
        return (yield)

    def state_dict(self) -> dict[str, Any]:
        """Returns the last iteration that was logged."""
        of_turns = {turn: iteration for turn, iteration in self._last_logged.items() if turn is not None}
        return {"recorded": self._last_logged[None]} | ({"turns": of_turns} if of_turns else {})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the last iteration that was logged.

        Args:
            state: The return value of `state_dict`.
        """
        self._last_logged = {None: state["recorded"], **state.get("turns", {})}
