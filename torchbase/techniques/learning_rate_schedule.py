"""Changes the learning rate during training."""

import warnings
from collections.abc import Callable, Generator, Mapping
from typing import Any, Self

import torch
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.monitoring import Monitor, phase_to_monitor
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.engine.training_step import optimizer_named
from torchbase.errors import HookError, describe_returned
from torchbase.intervals import Interval
from torchbase.metrics.directions import Mode


class LearningRateSchedule:
    """Steps a ``torch.optim.lr_scheduler`` after epochs or after optimizer steps.

    The rate is logged as ``learning_rate``, or as ``learning_rate_0``, ``learning_rate_1`` and so on if the optimizer
    has several parameter groups. Of several optimizers, each has a schedule of its own, and its name is at the end:
    ``learning_rate_generator``.

    Source: https://docs.pytorch.org/docs/stable/optim.html#how-to-adjust-learning-rate

    Example:
        >>> from torch.optim.lr_scheduler import CosineAnnealingLR
        >>> def cosine(optimizer):
        ...     return CosineAnnealingLR(optimizer, T_max=1000)
        >>> hook = LearningRateSchedule(cosine, every="1it")
    """

    def __init__(
        self,
        make_scheduler: Callable[[torch.optim.Optimizer], LRScheduler],
        every: str | Interval = "1ep",
        monitor: str | None = None,
        phase: str | None = None,
        mode: Mode | None = None,
        optimizer: str | None = None,
    ) -> None:
        """Sets the scheduler and its interval.

        Args:
            make_scheduler: A function from the optimizer to its scheduler, e.g. ``lambda optimizer: StepLR(optimizer,
                30)``.
            every: The interval in epochs (``"1ep"``) or in optimizer steps (``"1it"``). With accumulated gradients, a
                step takes several iterations.
            monitor: For ``ReduceLROnPlateau``, the name of the monitored value, an average or metric.
            phase: The name of the phase of the value. By default, the validation set that votes on the best network.
            mode: Whether lower (``"min"``) or higher (``"max"``) is better, as in ``ReduceLROnPlateau``. It is known
                for the loss and for metrics that declare it. For another value, pass it.
            optimizer: Of several optimizers, the name of the one that the schedule is for.

        Raises:
            IntervalError: If the interval is invalid, or is in seconds.
            HookError: If ``make_scheduler`` isn't a function. If ``monitor`` is combined with an interval in optimizer
                steps.
        """
        if not callable(make_scheduler):
            raise HookError(
                "LearningRateSchedule expects a function from the optimizer to its scheduler, but got "
                f"{describe_returned(make_scheduler)}. To fix, pass a function, e.g. lambda optimizer: "
                "StepLR(optimizer, 30); or return a scheduler from init_scheduler."
            )
        self._every = Interval.parse(every, units=("it", "ep"))
        if monitor is not None and self._every.unit != "ep":
            raise HookError(
                "LearningRateSchedule can monitor a value only at the end of epochs, but got "
                f"every='{every}'. To fix, pass every='1ep'."
            )
        self._make_scheduler, self._phase_name, self._optimizer = make_scheduler, phase, optimizer
        if optimizer is not None:
            self.name = f"learning_rate_schedule {optimizer}"  # unique, since each optimizer has one
        self._monitor = None if monitor is None else Monitor("LearningRateSchedule", monitor, mode)
        self._scheduler: LRScheduler | None = None
        self._loaded_state: Mapping[str, Any] | None = None
        self._steps = 0
        self._value: float | None = None  # of the monitored phase, since the last step of the scheduler

    def for_optimizer(self, name: str) -> Self:
        """Returns the schedule, for one of several optimizers.

        Args:
            name: The name of the optimizer.

        Raises:
            HookError: If the schedule is for another one.
        """
        if self._optimizer not in (None, name):
            raise HookError(
                f"A LearningRateSchedule for the optimizer '{self._optimizer}' was returned for '{name}'. To fix, "
                "remove its argument optimizer, or return it under that name."
            )
        self._optimizer, self.name = name, f"learning_rate_schedule {name}"
        return self

    @property
    def unused_events(self) -> frozenset[str]:
        """The event of a step, if the scheduler is stepped after epochs."""
        return frozenset() if self._every.unit == "it" else frozenset({"run_optimizer_step"})

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Creates the scheduler, and restores its state in a resumed run."""
        if self._monitor is not None:
            self._phase_name = phase_to_monitor(run, self._phase_name).name
        optimizer = optimizer_named(run, self._optimizer, "LearningRateSchedule")
        if self._scheduler is None or self._scheduler.optimizer is not optimizer:
            restored_groups = [_values_of(group) for group in optimizer.param_groups]
            self._scheduler = self._make(optimizer, run)
            if self._loaded_state is not None:  # a new scheduler has set the rates of the first step
                for group, values in zip(optimizer.param_groups, restored_groups, strict=True):
                    group.update(values)
        if self._loaded_state is not None:
            self._scheduler.load_state_dict(dict(self._loaded_state))
            self._loaded_state = None

    @hookimpl
    def on_epoch_start(self, run: Run) -> None:
        """Checks the name of the value before the first epoch, when the rehearsal has found the names."""
        if self._monitor is not None:
            self._monitor.check_name(run, [phase_to_monitor(run, self._phase_name)])

    @hookimpl(wrapper=True)
    def run_optimizer_step(self, run: Run) -> Generator[None, Any, Any]:
        """Steps the scheduler after the optimizer. This event doesn't fire for a skipped step."""
        if self._every.unit != "it" or self._scheduler is None or run.turn != self._optimizer:
            return (yield)
        _log_rates(run, self._scheduler)
        result = yield
        self._steps += 1
        if self._every.is_due_after(iterations=self._steps):
            self._scheduler.step()
        return result

    @hookimpl
    def on_phase_end(self, run: Run, phase: Phase) -> None:
        """Records the monitored value, except in an evaluation, which has no optimizer."""
        if self._monitor is not None and phase.name == self._phase_name and run.optimizer is not None:
            self._value = self._monitor.value_of(phase)

    @hookimpl
    def on_epoch_end(self, run: Run) -> None:
        """Steps the scheduler after the epoch."""
        if self._every.unit != "ep" or self._scheduler is None:
            return
        _log_rates(run, self._scheduler, "" if self._optimizer is None else f"_{self._optimizer}")
        if not self._every.is_due_after(epochs=run.epochs_done) or (self._monitor is not None and self._value is None):
            return
        with warnings.catch_warnings():
            # In a run that was resumed after the last iteration of an epoch, the optimizer hasn't stepped yet.
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
            if isinstance(self._scheduler, ReduceLROnPlateau) and self._value is not None:
                self._scheduler.step(self._value)
            else:
                self._scheduler.step()
        self._value = None

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of the scheduler."""
        scheduler = self._loaded_state if self._scheduler is None else self._scheduler.state_dict()
        return {"scheduler": scheduler, "steps": self._steps, "value": self._value}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Stores the state of the scheduler, which the start of the run restores.

        Args:
            state: The return value of `state_dict`.
        """
        self._loaded_state, self._steps, self._value = state["scheduler"], state["steps"], state["value"]

    def _make(self, optimizer: torch.optim.Optimizer, run: Run) -> LRScheduler:
        scheduler = self._make_scheduler(optimizer)
        if not isinstance(scheduler, LRScheduler):
            raise HookError(
                "LearningRateSchedule expects a function that returns a torch.optim.lr_scheduler.LRScheduler of its "
                f"argument, the optimizer, but the function returned {describe_returned(scheduler)}."
            )
        if scheduler.optimizer is not optimizer:
            raise HookError(
                f"The {type(scheduler).__name__} of LearningRateSchedule changes the rates of another optimizer than "
                f"the {type(optimizer).__name__} that trains. To fix, make it with the argument of the function, the "
                "optimizer; or in init_scheduler with self.optimizer."
            )
        monitor = None if self._monitor is None else self._monitor.name
        if isinstance(scheduler, ReduceLROnPlateau) != (monitor is not None):
            raise HookError(
                f"{type(scheduler).__name__} can't be used with monitor={monitor!r}. To fix, pass the name of "
                "the value that ReduceLROnPlateau monitors, e.g. monitor='loss'; other schedulers monitor no value."
            )
        if self._monitor is not None and isinstance(scheduler, ReduceLROnPlateau):
            _check_mode(scheduler, self._monitor, run)
        return scheduler


def _check_mode(scheduler: ReduceLROnPlateau, monitor: Monitor, run: Run) -> None:
    mode = monitor.mode_in(run)
    if mode is None and scheduler.mode == "min":  # the default, perhaps by mistake
        raise HookError(monitor.describe_unknown_mode(run))
    if mode is not None and mode != scheduler.mode:
        better = "lower" if mode == "min" else "higher"
        raise HookError(
            f"LearningRateSchedule monitors '{monitor.name}', of which {better} is better, but its "
            f"{type(scheduler).__name__} has mode='{scheduler.mode}'. To fix, pass mode='{mode}' to "
            f"{type(scheduler).__name__}."
        )


def _values_of(group: Mapping[str, Any]) -> dict[str, Any]:
    values = {name: value for name, value in group.items() if name != "params"}
    return {name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in values.items()}


def _log_rates(run: Run, scheduler: LRScheduler, end: str = "") -> None:
    groups = scheduler.optimizer.param_groups
    for number, group in enumerate(groups):
        run.log("learning_rate" + (f"_{number}" if len(groups) > 1 else "") + end, group["lr"])
