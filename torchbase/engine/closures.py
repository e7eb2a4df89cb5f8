"""Refuses an optimizer that `TrainingStep` can't step, since it needs a closure."""

import inspect

import torch

from torchbase.engine.named_optimizers import by_name
from torchbase.engine.run import Run
from torchbase.errors import StepError
from torchbase.listeners import without_wrappers

STEP, STEPPING_HOOK = "run_optimizer_step", "training_step"


def check_steps_without_closure(run: Run, iterating_hook: str) -> None:
    """Checks that the optimizer can be stepped without arguments, if a hook has `TrainingStep` step it.

    Args:
        run: The run, with its hooks registered.
        iterating_hook: The name of a hook whose `run_iteration` fires `run_optimizer_step`, if no other hook replaces
            it.

    Raises:
        StepError: If ``step`` of the optimizer requires an argument.
    """
    hooks = [without_wrappers(run.listeners[event]) for event in ("run_iteration", STEP)]
    if hooks == [[iterating_hook], [STEPPING_HOOK]]:
        for optimizer in by_name(run.optimizer).values():
            _check_steps_without_argument(optimizer)


def _check_steps_without_argument(optimizer: torch.optim.Optimizer) -> None:
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    required = [
        one.name for one in _parameters_of_step(optimizer) if one.default is one.empty and one.kind not in variadic
    ]
    if required:
        raise StepError(
            f"The optimizer {type(optimizer).__name__} can't be stepped: its step() requires {required[0]!r}, since "
            f"it computes the loss itself, and {STEPPING_HOOK} calls step() without arguments. To fix, register the "
            "hook ClosureStep() of torchbase.hooks, which passes a closure; or return another optimizer from "
            "init_optimizer."
        )


def _parameters_of_step(optimizer: torch.optim.Optimizer) -> list[inspect.Parameter]:
    own = vars(optimizer).get("step")
    if own is not None and not hasattr(own, "__wrapped__"):
        return list(inspect.signature(own).parameters.values())
    # A scheduler of torch wraps step in a function that isn't bound, whose signature has self. So the class's counts.
    return list(inspect.signature(type(optimizer).step).parameters.values())[1:]
