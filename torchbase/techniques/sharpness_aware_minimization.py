"""Trains with the gradients at nearby weights of a higher loss."""

from collections.abc import Generator
from typing import Any

import torch
from torch.nn.utils import get_total_norm

from torchbase.checkpoints.forward_state import copier_of
from torchbase.checkpoints.network_copy import NetworkCopier
from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.optimizer_parameters import held_parameters
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.engine.training_step import optimizer_of
from torchbase.errors import HookError
from torchbase.techniques.repeated_gradients import RepeatableIteration, check_can_repeat
from torchbase.techniques.settings import is_number

_SMALL = 1e-12  # as in the authors' code: a norm of zero is no divisor
UNSUITABLE = {
    "closure_step": "an optimizer that takes a closure evaluates the loss where it chooses. To fix, unregister one of "
    "them",
    "retry_on_out_of_memory": "the second forward pass can't be retried in parts. To fix, compute each mini-batch in "
    "parts (session.mini_batch_parts)",
    "sharded_training": "it moves whole weights, and each process has some rows only. To fix, remove "
    "session.distributed, so that each process holds the whole network",
}

Gradients = list[tuple[torch.Tensor, torch.Tensor]]


class SharpnessAwareMinimization:
    """Minimizes the loss and its sharpness (SAM): steps with the gradients at nearby weights of a higher loss.

    For better generalization, at the price of a second forward and backward pass in each iteration. The weights move by
    ``rho`` in the direction of the gradients of the mini-batch. The gradients there, of the same mini-batch with the
    same random numbers and buffers, are those that the optimizer uses, at the former weights. Any optimizer will do.
    Clipping, accumulation and schedules see the second gradients. With accumulation, each mini-batch has a movement of
    its own. Logged values, metrics and buffers are those of the first forward pass, so an iteration counts once.
    `run_forward`, `on_loss_computed` and `run_backward` fire twice, the other events once.

    Source: Foret et al., Sharpness-Aware Minimization for Efficiently Improving Generalization,
    https://arxiv.org/abs/2010.01412

    Example:
        >>> hook = SharpnessAwareMinimization(rho=0.05)
    """

    def __init__(self, rho: float = 0.05) -> None:
        """Sets how far the weights move.

        Args:
            rho: The 2-norm of the movement of all weights together, above 0.

        Raises:
            HookError: If ``rho`` isn't above 0.
        """
        if not is_number(rho) or not rho > 0:
            raise HookError(f"SharpnessAwareMinimization expects rho, a number above 0, but got {rho!r}.")
        self._rho = rho
        self._copier: NetworkCopier | None = None
        self._iteration: RepeatableIteration | None = None
        self._accumulated: Gradients = []

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Checks that the gradients can be computed twice."""
        check_can_repeat(run, "SharpnessAwareMinimization", UNSUITABLE)
        self._copier = copier_of(run)

    @hookimpl(wrapper=True)
    def run_iteration(self, run: Run, phase: Phase, batch: Any) -> Generator[None, Any, Any]:
        """Copies the state from before the iteration, and sets accumulated gradients aside."""
        if not phase.is_training:
            return (yield)
        self._iteration = RepeatableIteration(run, phase, batch, self._copier or copier_of(run))
        held = held_parameters(optimizer_of(run)).values()
        self._accumulated = [(one, one.grad) for one in held if one.grad is not None]
        for parameter, _ in self._accumulated:
            parameter.grad = None
        try:
            return (yield)
        finally:
            self._iteration, self._accumulated = None, []

    # A wrapper, so that all other hooks see the second gradients.
    @hookimpl(wrapper=True)
    def on_gradients_ready(self, run: Run) -> Generator[None, Any, Any]:
        """Computes the gradients again at the weights that have moved, and moves these back."""
        held = held_parameters(optimizer_of(run)).values()
        gradients = [(one, one.grad) for one in held if one.grad is not None]
        if self._iteration is not None and gradients:
            before = [one.detach().clone() for one, _ in gradients]
            self._move(gradients)
            for parameter, _ in gradients:
                parameter.grad = None
            try:
                self._iteration.compute_gradients()
            finally:
                with torch.no_grad():
                    for (parameter, _), weights in zip(gradients, before, strict=True):
                        parameter.copy_(weights)
        for parameter, gradient in self._accumulated:
            parameter.grad = gradient if parameter.grad is None else gradient + parameter.grad
        return (yield)

    def _move(self, gradients: Gradients) -> None:
        norm = get_total_norm([gradient for _, gradient in gradients])
        with torch.no_grad():
            factor = self._rho / (norm + _SMALL)
            for parameter, gradient in gradients:
                parameter.add_(gradient * factor.to(gradient.device))
