"""Stops a run that no longer improves."""

from collections.abc import Mapping
from typing import Any

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.monitoring import Monitor, phase_to_monitor
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.engine.votes import is_better
from torchbase.errors import HookError
from torchbase.metrics.directions import Mode
from torchbase.techniques.settings import is_count, is_number


class EarlyStopping:
    """Stops the run after an epoch when a monitored value has stopped improving.

    For runs whose length isn't known beforehand. The best network is saved as ``network.pth`` in any case. Checkpoints
    include the count of passes without improvement, so a resumed run stops at the same epoch. A stopped run continues
    when it is resumed with more patience.

    Source: Prechelt, Early Stopping - But When?, https://doi.org/10.1007/3-540-49430-8_3

    Example:
        >>> hook = EarlyStopping("accuracy", mode="max", patience=5)
    """

    def __init__(
        self,
        monitor: str = "loss",
        phase: str | None = None,
        mode: Mode | None = None,
        patience: int = 5,
        min_delta: float = 0.0,
    ) -> None:
        """Sets the monitored value and the patience.

        Args:
            monitor: The name of the monitored value, an average or metric.
            phase: The name of the phase of the value. By default, the validation set that votes on the best network.
            mode: Whether lower (``"min"``) or higher (``"max"``) is better. It is known for the loss and for metrics
                that declare it, as those of torchbase do. For another value, pass it.
            patience: The number of passes of the phase in a row without improvement after which the run stops, at least
                1. For a phase that runs once per epoch, passes are epochs.
            min_delta: The minimum improvement, in the unit of the value. Only a larger change counts as an improvement.

        Raises:
            HookError: If the mode, the patience or the minimum improvement is invalid.
        """
        self._monitor, self._phase_name = Monitor("EarlyStopping", monitor, mode), phase
        if not is_count(patience) or not is_number(min_delta) or not min_delta >= 0:
            raise HookError(
                "EarlyStopping expects an integer of at least 1 as patience and a number of at least 0 as min_delta, "
                f"but got {patience!r} and {min_delta!r}."
            )
        self._mode: Mode = "min"  # until the run starts
        self._patience, self._min_delta = patience, min_delta
        self._best: float | None = None
        self._passes_without_improvement = 0

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Finds the phase and the mode, so that a wrong name raises an error before training."""
        self._phase_name = phase_to_monitor(run, self._phase_name).name
        self._mode = self._monitor.known_mode_in(run)

    @hookimpl
    def on_epoch_start(self, run: Run) -> None:
        """Checks the name of the value before the first epoch, when the rehearsal has found the names."""
        self._monitor.check_name(run, [phase_to_monitor(run, self._phase_name)])

    @hookimpl
    def on_phase_end(self, phase: Phase) -> None:
        """Compares the value with the best so far."""
        if phase.name != self._phase_name:
            return
        value = self._monitor.value_of(phase)
        margin = self._min_delta if self._mode == "min" else -self._min_delta
        if is_better(value if self._best is None else value + margin, self._best, self._mode):
            self._best, self._passes_without_improvement = value, 0
        else:
            self._passes_without_improvement += 1

    @hookimpl
    def should_stop(self, run: Run) -> None:
        """Requests a stop after too many passes without improvement."""
        if self._passes_without_improvement >= self._patience:
            outcome = "was NaN" if self._best is None else f"has not improved on {self._best:.6g}"
            duration = f"for {self._passes_without_improvement} passes in a row"
            run.request_stop(f"the {self._monitor.name} of {self._phase_name} {outcome} {duration}")

    def state_dict(self) -> dict[str, Any]:
        """Returns the best value and the number of passes without improvement."""
        return {"best": self._best, "waited": self._passes_without_improvement}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the best value and the number of passes without improvement.

        Args:
            state: The return value of `state_dict`.
        """
        self._best, self._passes_without_improvement = state["best"], state["waited"]
