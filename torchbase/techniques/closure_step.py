"""Steps an optimizer that evaluates the loss several times in a step, such as LBFGS."""

from collections.abc import Generator
from typing import Any

import torch

from torchbase.checkpoints.forward_state import copier_of
from torchbase.checkpoints.network_copy import NetworkCopier
from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.engine.training_step import optimizer_of
from torchbase.errors import HookError
from torchbase.techniques.repeated_gradients import RepeatableIteration, check_can_repeat

ANEW = "each evaluation of the closure computes gradients anew, and only those of the first would be "
UNSUITABLE = {
    "gradient_clipping": f"{ANEW}clipped. To fix, unregister it",
    "nan_skip": "a step that has changed the weights can't be skipped any more. To fix, set session.nan_policy to "
    "'raise'",
    "retry_on_out_of_memory": "a step that has changed the weights can't be repeated. To fix, compute each mini-batch "
    "in parts (session.mini_batch_parts)",
    "sharded_training": "the vectors of such an optimizer span all parameters, and each process has some rows only. To "
    "fix, remove session.distributed, so that each process holds the whole network",
}


class ClosureStep:
    """Trains with an optimizer whose step takes a closure, such as ``torch.optim.LBFGS``.

    Each evaluation of the closure computes the loss and the gradients of the same mini-batch again, for the weights
    that the optimizer tries: with the same random numbers, such as those of dropout, and the same buffers. Afterwards
    buffers, logged values and metrics are those of the first evaluation, at the weights from before the step; so an
    iteration counts once. That evaluation is one more than the optimizer asks for. `run_forward`, `on_loss_computed`
    and `run_backward` fire for each evaluation, the other events once.

    Optimizers of other kinds, such as one of several, are stepped as without the hook, with one evaluation more.

    Source: https://docs.pytorch.org/docs/stable/optim.html#optimizer-step-closure

    Example:
        >>> hook = ClosureStep()
    """

    def __init__(self) -> None:
        self._copier: NetworkCopier | None = None
        self._iteration: RepeatableIteration | None = None

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Checks that the other hooks don't change gradients which only the first evaluation has."""
        check_can_repeat(run, "ClosureStep", UNSUITABLE)
        for listener in run.listeners.get("should_step_optimizer", ()):
            if "should_step_optimizer" not in getattr(run.hooks[listener.name], "unused_events", ()):
                raise HookError(
                    f"ClosureStep can't be used with the hook '{listener.name}', which implements "
                    f"should_step_optimizer: {ANEW}"
                    "accumulated or unscaled. To fix, unregister it, or use an optimizer that takes no closure."
                )
        self._copier = copier_of(run)

    @hookimpl(wrapper=True)
    def run_iteration(self, run: Run, phase: Phase, batch: Any) -> Generator[None, Any, Any]:
        """Copies the state from before the iteration."""
        if not phase.is_training:
            return (yield)
        self._iteration = RepeatableIteration(run, phase, batch, self._copier or copier_of(run))
        try:
            return (yield)
        finally:
            self._iteration = None

    @hookimpl
    def run_optimizer_step(self, run: Run) -> None:
        """Steps the optimizer with a closure, and clears the gradients."""
        optimizer, iteration = optimizer_of(run), self._iteration
        if iteration is None:
            raise HookError("ClosureStep steps within an iteration only. To fix, fire run_optimizer_step there.")

        def closure() -> torch.Tensor:
            optimizer.zero_grad(set_to_none=True)
            return iteration.compute_gradients()

        # torch allows a closure for each optimizer, but declares another type for it.
        optimizer.step(closure)  # type: ignore[arg-type]
        optimizer.zero_grad(set_to_none=True)
