"""Leaves out mini-batches whose loss or gradients are no numbers."""

import logging
import math
from collections.abc import Generator, Sequence
from typing import Any

import torch

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.iteration_values import IterationValues
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.engine.training_step import network_of
from torchbase.errors import NonFiniteError
from torchbase.hooks.bad_mini_batches import save_bad_mini_batch
from torchbase.techniques.buffers import SavedBuffers

logger = logging.getLogger("torchbase")

MAXIMUM_IN_A_ROW = 100


class NanSkip:
    """Leaves a training mini-batch out when its loss, or a gradient of it, is NaN or infinite.

    Such a mini-batch leaves no trace in the network (its buffers included), the gradients, the optimizer and the
    averages; it is kept in ``bad_mini_batches`` of the run directory. Each iteration waits for the device to tell,
    which `NanGuard` doesn't.
    """

    def __init__(self, then_stop: bool = False) -> None:
        """Sets what comes after one.

        Args:
            then_stop: Whether the run ends, in the state right before the mini-batch, rather than going on.
        """
        self._then_stop = then_stop
        self._skipped_in_a_row = 0

    # First, so that it goes around what other hooks do with the iteration.
    @hookimpl(wrapper=True, tryfirst=True)
    def run_iteration(self, run: Run, phase: Phase) -> Generator[None, Any, Any]:
        """Undoes an iteration that went wrong."""
        if not phase.is_training:
            return (yield)
        network = network_of(run)
        buffers = SavedBuffers(network)
        gradients = [(one, None if one.grad is None else one.grad.clone()) for one in network.parameters()]
        try:
            result = yield
        except _NonFiniteMiniBatchError as error:
            buffers.restore()
            for parameter, gradient in gradients:
                parameter.grad = gradient
            phase.values, phase.outputs, phase.loss = {}, None, None
            self._leave_out(run, phase, str(error))
            return None
        self._skipped_in_a_row = 0
        return result

    # First, before another hook takes the loss, or the gradients, for good.
    @hookimpl(tryfirst=True)
    def on_loss_computed(self, phase: Phase, loss: torch.Tensor) -> None:
        """Looks at the loss."""
        if phase.is_training and not torch.isfinite(loss):
            raise _NonFiniteMiniBatchError(f"its loss is {loss.item()}")

    @hookimpl(tryfirst=True)
    def on_gradients_ready(self, run: Run) -> None:
        """Looks at the gradients."""
        named = [(name, one.grad) for name, one in network_of(run).named_parameters() if one.grad is not None]
        if named:
            are_finite = torch.stack([_is_finite(gradient).to(run.device) for _, gradient in named]).tolist()
            bad = [name for (name, _), is_finite in zip(named, are_finite, strict=True) if not is_finite]
            if bad:
                raise _NonFiniteMiniBatchError(f"the gradient of '{bad[0]}' holds NaN or infinity")

    @hookimpl
    def on_values_read(self, run: Run, phase: Phase, rows: Sequence[IterationValues]) -> None:
        """Tells of validation losses that are no numbers: there is nothing to leave out of."""
        for row in rows:
            loss = row.values.get("loss", 0.0)
            if not phase.is_training and not math.isfinite(loss):
                self._tell(run, phase, row.mini_batch, f"its loss is {loss}", "")
                return

    def _leave_out(self, run: Run, phase: Phase, reason: str) -> None:
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row >= MAXIMUM_IN_A_ROW:
            raise NonFiniteError(
                f"{MAXIMUM_IN_A_ROW} mini-batches of {phase.name} in a row were left out, the last one because "
                f"{reason}. To fix, look at the loss, the learning rate and the data."
            )
        self._tell(run, phase, phase.progress.mini_batches + 1, reason, " It is left out.")

    def _tell(self, run: Run, phase: Phase, mini_batch: int, reason: str, what_is_done: str) -> None:
        kept = save_bad_mini_batch(run, phase, mini_batch, reason)
        where = f"mini-batch {mini_batch} of epoch {run.epoch} of {phase.name}"
        logger.warning("In %s %s.%s %s", where, reason, what_is_done, kept)
        if self._then_stop:
            run.request_stop(f"in {where} {reason}")


def _is_finite(gradient: torch.Tensor) -> torch.Tensor:
    values = gradient.coalesce().values() if gradient.is_sparse else gradient
    return torch.isfinite(values).all()


class _NonFiniteMiniBatchError(NonFiniteError):
    """Carries the news out of the iteration, to the wrapper around it."""
