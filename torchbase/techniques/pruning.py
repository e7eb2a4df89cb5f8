"""Stops a run that a search for hyper-parameters gives up."""

import logging
import math
from collections.abc import Mapping
from typing import Any, Protocol

from torchbase.distributed.done_together import do_together
from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.monitoring import Monitor, phase_to_monitor
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.errors import HookError
from torchbase.metrics.directions import Mode

_logger = logging.getLogger("torchbase")
_MODES: dict[str, Mode] = {"MINIMIZE": "min", "MAXIMIZE": "max"}


class Trial(Protocol):
    """One set of hyper-parameters that a search tries, such as a trial of Optuna."""

    def report(self, value: float, step: int) -> None:
        """Stores a value of this trial.

        Args:
            value: The value.
            step: The step, from 0.
        """

    def should_prune(self) -> bool:
        """Returns whether the trial is worse than others at the last step that was reported."""


class Pruning:
    """Reports a monitored value to a trial after each epoch, and stops the run when the trial says so.

    For searches of hyper-parameters, with Optuna or any object that has its methods ``report(value, step)`` and
    ``should_prune()``. Steps are epochs, from 0. After the call of the session, `is_pruned` says whether the trial
    stopped the run, and so does the stop reason of its summary.

    A resumed run goes on with the same trial. Pass the values that the trial has as ``reported``: the epochs between
    the checkpoint and a kill are trained again, and their values aren't reported again. Nor is the trial asked again
    about an epoch after which it went on. A pruned run stays pruned when it is resumed.

    With several processes, the trial of the main process decides for all. The others pass None.

    Source: https://optuna.readthedocs.io/en/stable/tutorial/10_key_features/003_efficient_optimization_algorithms.html

    Example:
        >>> hook = Pruning(trial, "accuracy")
    """

    def __init__(
        self,
        trial: Trial | None,
        monitor: str = "loss",
        phase: str | None = None,
        mode: Mode | None = None,
        reported: Mapping[int, float] | None = None,
    ) -> None:
        """Sets the trial and the monitored value.

        Args:
            trial: The trial; None on other processes than the main one.
            monitor: The name of the monitored value, an average or metric.
            phase: The name of the phase of the value. By default, the validation set that votes on the best network.
            mode: Whether lower (``"min"``) or higher (``"max"``) is better, to compare it with the direction of the
                trial's study. It is known for the loss and for metrics that declare it.
            reported: The values that were reported to the trial before this run was resumed, by step; with Optuna,
                ``intermediate_values`` of the frozen trial.

        Raises:
            HookError: If the trial lacks a method, or the mode is invalid.
        """
        if trial is not None and not all(callable(getattr(trial, name, None)) for name in ("report", "should_prune")):
            raise HookError(
                f"Pruning expects a trial with the methods report(value, step) and should_prune(), but got "
                f"{type(trial).__name__}. To fix, pass the trial that Optuna passes to the objective."
            )
        self._trial, self._monitor, self._phase_name = trial, Monitor("Pruning", monitor, mode), phase
        self._reported = dict(reported or {})
        self._value: float | None = None  # of this epoch
        self._reason: str | None = None

    @property
    def is_pruned(self) -> bool:
        """Whether the trial has stopped the run."""
        return self._reason is not None

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Finds the phase, compares the directions, and stops a run that was pruned before it was resumed."""
        self._phase_name = phase_to_monitor(run, self._phase_name).name
        do_together(run.processes, lambda: self._check_trial(run), "the check of the trial")
        if self._reason is not None:
            run.request_stop(self._reason)

    @hookimpl
    def on_epoch_start(self, run: Run) -> None:
        """Checks the name of the value before the first epoch, when the rehearsal has found the names."""
        self._monitor.check_name(run, [phase_to_monitor(run, self._phase_name)])

    @hookimpl
    def on_phase_end(self, phase: Phase) -> None:
        """Notes the value."""
        if phase.name == self._phase_name:
            self._value = self._monitor.value_of(phase)

    @hookimpl
    def on_epoch_end(self, run: Run) -> None:
        """Reports the value, and requests a stop if the trial says so."""
        value, self._value = self._value, None
        if value is None:  # the phase doesn't run in each epoch
            return
        is_pruned, *_ = do_together(run.processes, lambda: self._report(value, run.epoch - 1), "the decision to prune")
        if is_pruned:
            place = f"the {self._monitor.name} of {self._phase_name} was {value:.6g} after epoch {run.epoch}"
            self._reason = f"pruned by the trial: {place}"
            run.request_stop(self._reason)

    def state_dict(self) -> dict[str, Any]:
        """Returns the value that isn't reported yet, and the reason of the stop."""
        return {"value": self._value, "reason": self._reason}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the value that isn't reported yet, and the reason of the stop.

        Args:
            state: The return value of `state_dict`.
        """
        self._value, self._reason = state["value"], state["reason"]

    def _report(self, value: float, step: int) -> bool:
        """Returns whether the trial stops the run; False on other processes than the main one."""
        if self._trial is None:
            return False
        if step not in self._reported:
            self._trial.report(value, step)
            self._reported[step] = value
        elif not _is_same(value, self._reported[step]):
            _logger.warning(
                "The trial has %r as the %s of step %d, and the run has computed %r now. The trial keeps its value. To "
                "fix, check that the run is resumed with the trial that it was begun with.",
                *(self._reported[step], self._monitor.name, step, value),
            )
        return step >= max(self._reported) and bool(self._trial.should_prune())

    def _check_trial(self, run: Run) -> None:
        if not run.processes.is_main:
            self._trial = None
            return
        if self._trial is None:
            raise HookError(
                "Pruning has no trial on the main process, which asks it. To fix, pass the trial there, and None on "
                "the others only."
            )
        direction = getattr(getattr(getattr(self._trial, "study", None), "direction", None), "name", None)
        expected, mode = _MODES.get(str(direction)), self._monitor.mode_in(run)
        if None not in (expected, mode) and expected != mode:
            better = {"min": "lower", "max": "higher"}
            raise HookError(
                f"Pruning monitors '{self._monitor.name}', of which {better[str(mode)]} is better, and in the study of "
                f"the trial {better[str(expected)]} is better. So the best runs would be pruned. To fix, create the "
                f"study with direction={'minimize' if mode == 'min' else 'maximize'!r}, or monitor another value."
            )


def _is_same(first: float, second: float) -> bool:
    return first == second or (math.isnan(first) and math.isnan(second))
