"""Computes the gradients of an iteration again, with other weights and the same random numbers."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import torch

from torchbase.checkpoints.forward_state import ForwardState
from torchbase.checkpoints.network_copy import NetworkCopier
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.engine.training_step import loss_to_train_on
from torchbase.errors import HookError
from torchbase.listeners import without_wrappers
from torchbase.randomness.streams import streams_restorer


@runtime_checkable
class ComputesGradients(Protocol):
    """A hook that runs iterations, and can compute the gradients of one without using them."""

    def compute_gradients(self, run: Run, phase: Phase, batch: Any) -> None:
        """Computes the gradients of a mini-batch, and adds them to those that are there.

        Args:
            run: The run.
            phase: The training phase.
            batch: The mini-batch.
        """


class RepeatableIteration:
    """An iteration whose gradients can be computed again.

    Each time, the forward pass begins with the random streams and the state of the network (except its weights) from
    before the iteration. Afterwards they are those of the first time, as are the logged values, the outputs and the
    loss of the iteration.
    """

    def __init__(self, run: Run, phase: Phase, batch: Any, copier: NetworkCopier) -> None:
        """Copies the state from before the iteration.

        Args:
            run: The run.
            phase: The training phase.
            batch: The mini-batch.
            copier: Of the run's network.
        """
        self._run, self._phase, self._batch, self._copier = run, phase, batch, copier
        self._computing = _computing_hook(run, type(self).__name__)
        self._restore_streams, self._forward = streams_restorer(run.device), ForwardState(run, copier)

    def compute_gradients(self) -> torch.Tensor:
        """Computes the gradients for the current weights, and adds them to those that are there.

        Returns:
            The loss, detached, shape ().
        """
        run, phase = self._run, self._phase
        with self._restoring_first_results():
            self._restore_streams()
            self._forward.restore()
            phase.values = {}
            self._computing.compute_gradients(run, phase, self._batch)
            return loss_to_train_on(phase.loss)

    @contextmanager
    def _restoring_first_results(self) -> Generator[None]:
        run, phase = self._run, self._phase
        restore_streams, forward = streams_restorer(run.device), ForwardState(run, self._copier)
        results = phase.values, phase.outputs, phase.loss, phase.loss_weight, phase.parts, phase.samples
        try:
            yield
        finally:
            restore_streams()
            forward.restore()
            phase.values, phase.outputs, phase.loss, phase.loss_weight, phase.parts, phase.samples = results


def check_can_repeat(run: Run, hook: str, unsuitable: Mapping[str, str]) -> None:
    """Checks before training that a hook can compute the gradients of an iteration again.

    Args:
        run: The run, with its hooks registered.
        hook: The class name of the hook.
        unsuitable: Names of other hooks that it doesn't work with, each with the reason and a fix.

    Raises:
        HookError: If a hook that runs iterations can't compute gradients alone, or an unsuitable hook is registered.
    """
    _computing_hook(run, hook)
    for name, reason in unsuitable.items():
        if name in run.hooks:
            raise HookError(f"{hook} can't be used with the hook '{name}': {reason}.")


def _computing_hook(run: Run, hook: str) -> ComputesGradients:
    (name,) = without_wrappers(run.listeners["run_iteration"])  # of a run_ event, one hook does the work
    computing = run.hooks[name]
    if not isinstance(computing, ComputesGradients):
        raise HookError(
            f"{hook} computes the gradients of an iteration again, and '{name}', which implements run_iteration, can't "
            "do that. To fix, let training_step run the iterations, or give the hook a method "
            "compute_gradients(run, phase, batch) that computes the gradients and doesn't use them."
        )
    return computing
