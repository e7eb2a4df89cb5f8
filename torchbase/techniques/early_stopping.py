"""Ends a run that no longer gets better."""

from collections.abc import Mapping
from typing import Any, Literal

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.monitoring import monitored_value, phase_to_monitor
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.engine.votes import is_better
from torchbase.errors import HookError


class EarlyStopping:
    """Ends the run, between two epochs, when a value has not improved for a while.

    For runs whose length isn't known beforehand. The best network is kept in ``network.pth`` anyway. What was waited
    is kept in checkpoints, so a resumed run ends where it would have; one that is resumed with more patience goes on.

    Source: Prechelt, Early Stopping - But When?, https://doi.org/10.1007/3-540-49430-8_3

    Example:
        >>> hook = EarlyStopping("accuracy", mode="max", patience=5)
    """

    def __init__(
        self,
        monitor: str = "loss",
        phase: str | None = None,
        mode: Literal["min", "max"] = "min",
        patience: int = 5,
        min_delta: float = 0.0,
    ) -> None:
        """Sets what is to improve, and how long to wait for it.

        Args:
            monitor: The name of the value, an average or metric.
            phase: The phase whose value it is; without one the validation set that votes on the best network.
            mode: Whether lower (``"min"``) or higher (``"max"``) is better.
            patience: How many passes of that phase in a row may bring no improvement, at least 1. Where it is run once
                an epoch, these are epochs.
            min_delta: By how much more than this, in the unit of the value, it has to change to have improved.

        Raises:
            HookError: If the mode, the patience or the difference is none of these.
        """
        if mode not in ("min", "max"):
            raise HookError(f"The mode of EarlyStopping is {mode!r}, and has to be 'min' or 'max'.")
        if patience < 1 or not min_delta >= 0:
            raise HookError(
                f"EarlyStopping takes a patience of at least 1 and a min_delta of at least 0, and got {patience!r} and "
                f"{min_delta!r}."
            )
        self._monitor, self._phase_name, self._mode = monitor, phase, mode
        self._patience, self._min_delta = patience, min_delta
        self._best: float | None = None
        self._waited = 0

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Finds the phase, so that a wrong name shows before training."""
        self._phase_name = phase_to_monitor(run, self._phase_name).name

    @hookimpl
    def on_phase_end(self, phase: Phase) -> None:
        """Compares the value with the best so far."""
        if phase.name != self._phase_name:
            return
        value = monitored_value(phase, self._monitor)
        margin = self._min_delta if self._mode == "min" else -self._min_delta
        if is_better(value if self._best is None else value + margin, self._best, self._mode):
            self._best, self._waited = value, 0
        else:
            self._waited += 1

    @hookimpl
    def should_stop(self, run: Run) -> None:
        """Ends the run when the patience is over, with a reason."""
        if self._waited >= self._patience:
            best = "was never a number" if self._best is None else f"has not improved on {self._best:.6g}"
            run.request_stop(f"the {self._monitor} of {self._phase_name} {best} for {self._waited} passes in a row")

    def state_dict(self) -> dict[str, Any]:
        """Gives the best value, and for how long it has not improved."""
        return {"best": self._best, "waited": self._waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes the best value, and for how long it has not improved.

        Args:
            state: What `state_dict` gave.
        """
        self._best, self._waited = state["best"], state["waited"]
