"""Skips mini-batches whose loss or gradients are NaN or infinite."""

import logging
import math
from collections import Counter
from collections.abc import Generator, Sequence
from typing import Any

import torch

from torchbase.checkpoints.forward_state import ForwardState, copier_of
from torchbase.checkpoints.network_copy import NetworkCopier
from torchbase.distributed.shards import is_shard, local_of
from torchbase.engine.abandoned import IterationAbandonedError
from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.iteration_values import IterationValues
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.engine.training_step import network_of
from torchbase.errors import NonFiniteError
from torchbase.hooks.bad_mini_batches import save_bad_mini_batch

logger = logging.getLogger("torchbase")

MAXIMUM_IN_A_ROW = 100


class NanSkip:
    """Skips training mini-batches whose loss or gradients are NaN or infinite.

    A skipped mini-batch leaves no trace in the state of the network, the states of hooks, the gradients, the optimizer
    and the averages. It is saved in ``bad_mini_batches`` of the run directory. With several optimizers, the turn of one
    is skipped, and the others have theirs. Unlike `NanGuard`, this hook synchronizes with the device in each iteration.
    """

    def __init__(self, then_stop: bool = False) -> None:
        """Sets whether the run stops after a skipped mini-batch.

        Args:
            then_stop: Whether the run stops, in the state right before the mini-batch, instead of continuing.
        """
        self._then_stop = then_stop
        self._skipped_in_a_row: Counter[str | None] = Counter()  # by turn
        self._copier: NetworkCopier | None = None

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Prepares the copies of the network's state."""
        self._copier = copier_of(run)

    # First, so that this wrapper is outside those of other hooks.
    @hookimpl(wrapper=True, tryfirst=True)
    def run_iteration(self, run: Run, phase: Phase) -> Generator[None, Any, Any]:
        """Undoes an iteration with a loss or gradient that is not finite."""
        if not phase.is_training or self._copier is None:
            return (yield)
        before = ForwardState(run, self._copier)
        gradients = [
            (parameter, None if parameter.grad is None else parameter.grad.clone())
            for parameter in network_of(run).parameters()
        ]
        try:
            result = yield
        except IterationAbandonedError as error:
            before.restore()
            for parameter, gradient in gradients:
                parameter.grad = gradient
            phase.values, phase.outputs, phase.loss = {}, None, None
            self._skip(run, phase, str(error))
            return None
        self._skipped_in_a_row[run.turn] = 0
        return result

    # First, before another hook uses the loss or the gradients.
    @hookimpl(tryfirst=True)
    def on_loss_computed(self, phase: Phase, loss: torch.Tensor) -> None:
        """Checks the loss."""
        if phase.is_training and not torch.isfinite(loss):
            raise IterationAbandonedError(f"its loss is {loss.item()}")

    @hookimpl(tryfirst=True)
    def on_gradients_ready(self, run: Run) -> None:
        """Checks the gradients."""
        parameters = network_of(run).named_parameters()
        named = [(name, parameter.grad) for name, parameter in parameters if parameter.grad is not None]
        if named:
            are_finite = torch.stack([_is_finite(local_of(gradient)).to(run.device) for _, gradient in named]).tolist()
            bad = [name for (name, _), is_finite in zip(named, are_finite, strict=True) if not is_finite]
            if any(is_shard(gradient) for _, gradient in named):  # of which other processes have other rows
                found = {name for names in run.processes.gather(bad, "gradients that aren't finite") for name in names}
                bad = [name for name, _ in named if name in found]
            if bad:
                raise IterationAbandonedError(f"the gradient of '{bad[0]}' contains NaN or infinity")

    @hookimpl
    def on_values_read(self, run: Run, phase: Phase, rows: Sequence[IterationValues]) -> None:
        """Warns of validation losses that are not finite; in validation no mini-batch is skipped."""
        for row in rows:
            loss = row.values.get("loss", 0.0)
            if not phase.is_training and not math.isfinite(loss):
                self._report(run, phase, row.mini_batch, f"its loss is {loss}", "")
                return

    def _skip(self, run: Run, phase: Phase, reason: str) -> None:
        self._skipped_in_a_row[run.turn] += 1
        if self._skipped_in_a_row[run.turn] >= MAXIMUM_IN_A_ROW:
            raise NonFiniteError(
                f"{MAXIMUM_IN_A_ROW} mini-batches of {phase.name} in a row were skipped, the last one because "
                f"{reason}. To fix, check the loss, the learning rate and the data."
            )
        turn = "" if run.turn is None else f" in the turn of '{run.turn}'"
        self._report(run, phase, phase.progress.mini_batches + 1, reason, f" It is skipped{turn}.")

    def _report(self, run: Run, phase: Phase, mini_batch: int, reason: str, consequence: str) -> None:
        saved = save_bad_mini_batch(run, phase, mini_batch, reason)
        where = f"mini-batch {mini_batch} of epoch {run.epoch} of {phase.name}"
        logger.warning("In %s %s.%s %s", where, reason, consequence, saved)
        if self._then_stop:
            run.request_stop(f"in {where} {reason}")


def _is_finite(gradient: torch.Tensor) -> torch.Tensor:
    values = gradient.coalesce().values() if gradient.is_sparse else gradient
    return torch.isfinite(values).all()
