"""Changes the learning rate while the training goes on."""

import warnings
from collections.abc import Callable, Generator, Mapping
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.monitoring import monitored_value, phase_to_monitor
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.engine.training_step import optimizer_of
from torchbase.errors import HookError
from torchbase.intervals import Interval


class LearningRateSchedule:
    """Steps a scheduler of torch, whichever it is, behind epochs or behind steps of the optimizer.

    The rate is logged as ``learning_rate``, with a number behind it where the optimizer has several groups.

    Source: https://docs.pytorch.org/docs/stable/optim.html#how-to-adjust-learning-rate

    Example:
        >>> from torch.optim.lr_scheduler import CosineAnnealingLR
        >>> hook = LearningRateSchedule(lambda optimizer: CosineAnnealingLR(optimizer, T_max=1000), every="1it")
    """

    def __init__(
        self,
        make_scheduler: Callable[[torch.optim.Optimizer], LRScheduler],
        every: str | Interval = "1ep",
        monitor: str | None = None,
        phase: str | None = None,
    ) -> None:
        """Sets which scheduler, and when it is stepped.

        Args:
            make_scheduler: Makes the scheduler of the optimizer, e.g. ``lambda optimizer: StepLR(optimizer, 30)``.
            every: Behind how many epochs (``"1ep"``), or behind how many steps of the optimizer (``"1it"``); where
                gradients are accumulated, a step takes several iterations.
            monitor: For ``ReduceLROnPlateau``, the name of the value that it is given: an average or metric.
            phase: The phase of that value; without one the validation set that votes on the best network.

        Raises:
            IntervalError: If the interval can't be read, or is in seconds.
            HookError: If a value is to be monitored behind steps of the optimizer.
        """
        self._every = Interval.parse(every, units=("it", "ep"))
        if monitor is not None and self._every.unit != "ep":
            raise HookError(f"A value is monitored at the end of epochs, and every='{every}' came. To fix, take '1ep'.")
        self._make_scheduler, self._monitor, self._phase_name = make_scheduler, monitor, phase
        self._scheduler: LRScheduler | None = None
        self._kept: Mapping[str, Any] | None = None
        self._steps = 0
        self._value: float | None = None  # of the monitored phase, since the scheduler was stepped last

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Makes the scheduler, or goes on with it."""
        if self._monitor is not None:
            self._phase_name = phase_to_monitor(run, self._phase_name).name
        optimizer = optimizer_of(run)
        if self._scheduler is None or self._scheduler.optimizer is not optimizer:
            as_resumed = [_values_of(group) for group in optimizer.param_groups]
            self._scheduler = self._make(optimizer)
            if self._kept is not None:  # to make one is to begin anew, with the rates of the first step
                for group, values in zip(optimizer.param_groups, as_resumed, strict=True):
                    group.update(values)
        if self._kept is not None:
            self._scheduler.load_state_dict(dict(self._kept))
            self._kept = None

    @hookimpl(wrapper=True)
    def run_optimizer_step(self, run: Run) -> Generator[None, Any, Any]:
        """Steps the scheduler behind the optimizer; where a step is left out, this isn't told."""
        if self._every.unit != "it" or self._scheduler is None:
            return (yield)
        _log_rates(run)
        answer = yield
        self._steps += 1
        if self._every.is_due_after(iterations=self._steps):
            self._scheduler.step()
        return answer

    @hookimpl
    def on_phase_end(self, run: Run, phase: Phase) -> None:
        """Notes the monitored value, but not that of an evaluation, which has no optimizer."""
        if self._monitor is not None and phase.name == self._phase_name and run.optimizer is not None:
            self._value = monitored_value(phase, self._monitor)

    @hookimpl
    def on_epoch_end(self, run: Run) -> None:
        """Steps the scheduler behind the epoch."""
        if self._every.unit != "ep" or self._scheduler is None:
            return
        _log_rates(run)
        if not self._every.is_due_after(epochs=run.epochs_done) or (self._monitor is not None and self._value is None):
            return
        with warnings.catch_warnings():
            # In a session that was resumed behind the last iteration of an epoch the optimizer hasn't stepped yet.
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
            if isinstance(self._scheduler, ReduceLROnPlateau) and self._value is not None:
                self._scheduler.step(self._value)
            else:
                self._scheduler.step()
        self._value = None

    def state_dict(self) -> dict[str, Any]:
        """Gives the scheduler's state."""
        scheduler = self._kept if self._scheduler is None else self._scheduler.state_dict()
        return {"scheduler": scheduler, "steps": self._steps, "value": self._value}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes the scheduler's state, for when there is one.

        Args:
            state: What `state_dict` gave.
        """
        self._kept, self._steps, self._value = state["scheduler"], state["steps"], state["value"]

    def _make(self, optimizer: torch.optim.Optimizer) -> LRScheduler:
        scheduler = self._make_scheduler(optimizer)
        if not isinstance(scheduler, LRScheduler) or scheduler.optimizer is not optimizer:
            raise HookError(
                "LearningRateSchedule takes a function that makes a torch.optim.lr_scheduler.LRScheduler of the "
                f"optimizer that it is given, and it made {type(scheduler).__name__}."
            )
        if isinstance(scheduler, ReduceLROnPlateau) != (self._monitor is not None):
            raise HookError(
                f"{type(scheduler).__name__} came with monitor={self._monitor!r}. To fix, name the value that "
                "ReduceLROnPlateau is to look at, e.g. monitor='loss'; other schedulers look at none."
            )
        return scheduler


def _values_of(group: Mapping[str, Any]) -> dict[str, Any]:
    values = {name: value for name, value in group.items() if name != "params"}
    return {name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in values.items()}


def _log_rates(run: Run) -> None:
    groups = optimizer_of(run).param_groups
    for number, group in enumerate(groups):
        run.log("learning_rate" if len(groups) == 1 else f"learning_rate_{number}", group["lr"])
