"""The checks of what ``init_scheduler`` returns, and the hooks that step it."""

from collections.abc import Callable, Mapping

import torch
from torch.optim.lr_scheduler import LRScheduler

from torchbase.engine.named_optimizers import NamedOptimizers, by_name
from torchbase.errors import StepError, describe_returned, did_you_mean
from torchbase.hooks import LearningRateSchedule


def make_schedules(
    init_scheduler: Callable[[], object], optimizer: torch.optim.Optimizer
) -> list[LearningRateSchedule]:
    """Calls ``init_scheduler`` and checks its return value.

    Args:
        init_scheduler: The method of the session.
        optimizer: The optimizer of the session.

    Returns:
        The hooks that step the schedulers.

    Raises:
        StepError: If it is neither a scheduler of torch nor a `LearningRateSchedule`. With several optimizers, if it
            isn't a dictionary of them by the names of the optimizers. If a scheduler was made and none is returned.
    """
    before = _names_with_scheduler(optimizer)
    returned = init_scheduler()
    made = _names_with_scheduler(optimizer) - before
    schedules: dict[str | None, LearningRateSchedule]
    if returned is None:
        schedules = {}
    elif isinstance(optimizer, NamedOptimizers):
        schedules = _by_name(returned, optimizer)
    else:
        schedules = {None: _schedule(returned)}
    for name, one in by_name(optimizer).items():
        if name in made and name not in schedules:
            what = (
                describe_returned(returned) if returned is None or name is None else f"only those of {list(schedules)}"
            )
            of_name, it = ("", "the scheduler") if name is None else (f" '{name}'", f"it as the item {name!r}")
            raise StepError(
                f"init_scheduler made a scheduler of the {type(one).__name__}{of_name}, but returned {what}, so it "
                f"would never be stepped. To fix, return {it}."
            )
    return list(schedules.values())


def _names_with_scheduler(optimizer: torch.optim.Optimizer) -> set[str | None]:
    # A scheduler of torch writes this when it is made. A wrapper of optimizers may have no groups of its own.
    return {
        name
        for name, one in by_name(optimizer).items()
        if any("initial_lr" in group for group in getattr(one, "param_groups", ()))
    }


def _by_name(returned: object, optimizers: NamedOptimizers) -> dict[str | None, LearningRateSchedule]:
    to_fix = f"To fix, return a dictionary of schedulers by name, such as {{{next(iter(optimizers))!r}: scheduler}}."
    available = ", ".join(map(repr, optimizers))
    if not isinstance(returned, Mapping):
        raise StepError(
            f"init_scheduler returned {describe_returned(returned)}, and there are several optimizers, {available}. "
            f"{to_fix}"
        )
    schedules: dict[str | None, LearningRateSchedule] = {}
    for name, one in returned.items():
        if name not in optimizers.by_name:
            hint = did_you_mean(name, optimizers) if isinstance(name, str) else ""
            raise StepError(
                f"init_scheduler returned a scheduler for {name!r}, and the optimizers are {available}.{hint} {to_fix}"
            )
        if isinstance(one, LRScheduler) and one.optimizer is not optimizers[name]:
            raise StepError(
                f"The {type(one).__name__} that init_scheduler returned for {name!r} was made of another optimizer. To "
                f"fix, make it of self.optimizer[{name!r}]."
            )
        schedules[name] = _schedule(one).for_optimizer(name)
    return schedules


def _schedule(returned: object) -> LearningRateSchedule:
    if isinstance(returned, LearningRateSchedule):
        return returned
    if not isinstance(returned, LRScheduler):
        raise StepError(
            "init_scheduler has to return a torch.optim.lr_scheduler.LRScheduler, a LearningRateSchedule or None, or a "
            f"dictionary of them by the names of several optimizers, and returned {describe_returned(returned)}."
        )
    return LearningRateSchedule(lambda optimizer: returned)
