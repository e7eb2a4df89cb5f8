"""Computes a mini-batch that doesn't fit into memory in parts."""

import logging
import traceback
from collections.abc import Generator, Sequence
from typing import Any

import torch

from torchbase.checkpoints.forward_state import copier_of
from torchbase.checkpoints.network_copy import NetworkCopier
from torchbase.data.parts import count_samples, split_mini_batch
from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.loss_weights import Weight, share_of
from torchbase.engine.part_results import PartResults
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.engine.training_step import (
    backward_of_part,
    compute_loss,
    loss_to_train_on,
    other_hooks_that_run_iterations,
    use_gradients,
)
from torchbase.errors import HookError
from torchbase.techniques.iteration_state import StateBeforeIteration

logger = logging.getLogger("torchbase")


class RetryOnOutOfMemory:
    """Retries an iteration in smaller parts when the device runs out of memory.

    For data whose samples differ in size. The mini-batch is split into halves, then quarters and so on, and the
    optimizer steps once. The gradient equals that of the whole mini-batch if the loss is a mean over samples, or over
    what ``infer_loss_weight`` of the session returns, and samples don't depend on each other (with batch normalization
    they do). Before each try, random streams, buffers and gradients are restored. Other hooks see a single iteration
    with several losses. `Rehearsal` also runs in parts if necessary.

    When memory runs out depends on the machine, and the last bits of the weights depend on the parts. A run with
    retries is therefore not reproducible on another machine. Each iteration copies the random states, the state of
    the network that forward passes change, and accumulated gradients, for a possible retry.

    Source: https://docs.pytorch.org/docs/stable/notes/faq.html#my-out-of-memory-exception-handler-can-t-allocate-memory

    Example:
        >>> hook = RetryOnOutOfMemory()
    """

    def __init__(self) -> None:
        self._is_in_iteration = self._has_gradients = False
        self._copier: NetworkCopier | None = None

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Checks that `TrainingStep` runs the iterations, because this hook repeats its events."""
        others = other_hooks_that_run_iterations(run, "mini_batch_parts")
        if others or "training_step" not in run.hooks:
            raise HookError(
                "RetryOnOutOfMemory can only retry iterations that training_step runs, but in this run "
                f"{' and '.join(map(repr, others)) or 'no training_step'} implements run_iteration. To fix, "
                "remove RetryOnOutOfMemory, or let training_step run the iterations."
            )
        self._copier = copier_of(run)

    @hookimpl(wrapper=True)
    def run_iteration(self, run: Run, phase: Phase, batch: Any) -> Generator[None, Any, Any]:
        """Runs the iteration, in parts if necessary."""
        if "mini_batch_parts" in run.hooks:
            return (yield)  # its parts are retried
        before = self._state_before(run, phase)
        self._is_in_iteration, self._has_gradients = True, False
        try:
            try:
                return (yield)
            except torch.OutOfMemoryError as error:
                if self._has_gradients:
                    error.add_note("after the gradients were computed, so smaller mini-batches don't help")
                    raise
                _free_memory(error, run)
            _compute_in_parts(run, phase, batch, before, share=1.0 if phase.is_training else None)
            if phase.is_training:
                use_gradients(run)
            return None
        finally:
            self._is_in_iteration = False

    @hookimpl(wrapper=True)
    def run_part(self, run: Run, phase: Phase, batch: Any, share: Weight) -> Generator[None, Any, Any]:
        """Runs a part of a mini-batch, in smaller parts if necessary."""
        return (yield from self._retried(run, phase, batch, share if phase.is_training else None))

    # First: once a hook has used the gradients, the iteration must not be repeated.
    @hookimpl(tryfirst=True)
    def on_gradients_ready(self) -> None:
        """Records that the iteration can't be retried any more."""
        self._has_gradients = True

    @hookimpl(wrapper=True)
    def run_forward(self, run: Run, phase: Phase, batch: Any) -> Generator[None, Any, Any]:
        """Runs a forward pass outside of iterations, such as that of the rehearsal, in parts if necessary."""
        if self._is_in_iteration:
            return (yield)
        return (yield from self._retried(run, phase, batch, None))

    def _retried(self, run: Run, phase: Phase, batch: Any, share: Weight | None) -> Generator[None, Any, Any]:
        before = self._state_before(run, phase)
        self._is_in_iteration = True
        try:
            try:
                return (yield)
            except torch.OutOfMemoryError as error:
                _free_memory(error, run)
            return _compute_in_parts(run, phase, batch, before, share=share)
        finally:
            self._is_in_iteration = False

    def _state_before(self, run: Run, phase: Phase) -> StateBeforeIteration:
        if self._copier is None:  # an evaluation, outside of a run
            self._copier = copier_of(run)
        return StateBeforeIteration(run, phase, self._copier)


def _free_memory(error: torch.OutOfMemoryError, run: Run) -> None:
    # The frames of the traceback hold references to the tensors that filled the memory.
    traceback.clear_frames(error.__traceback__)
    if run.device.type != "cpu":
        torch.get_device_module(run.device).empty_cache()


def _compute_in_parts(
    run: Run, phase: Phase, batch: Any, before: StateBeforeIteration, *, share: Weight | None
) -> torch.Tensor | None:
    samples, number = count_samples(batch), 1
    while number < samples:
        number = min(2 * number, samples)
        before.restore()
        try:
            loss = _compute_parts(run, phase, split_mini_batch(batch, number), share)
        except torch.OutOfMemoryError as error:
            _free_memory(error, run)
            continue
        logger.info("%d samples of %s don't fit into memory; computed in %d parts.", samples, phase.name, number)
        return loss
    raise torch.OutOfMemoryError(
        f"A mini-batch of {samples} samples of {phase.name} doesn't fit into memory, even one sample at a time."
    )


def _compute_parts(run: Run, phase: Phase, parts: Sequence[Any], share_of_all: Weight | None) -> torch.Tensor | None:
    sizes = [count_samples(part) for part in parts]
    by_loss = None if run.loss_weights is None else [run.loss_weights.of(part) for part in parts]
    weights = sizes if by_loss is None else by_loss
    results, samples = PartResults(phase), 0
    for part, weight in zip(parts, weights, strict=True):
        with torch.set_grad_enabled(phase.is_training):
            loss = compute_loss(run, phase, part)
        samples += phase.samples
        if share_of_all is not None:
            backward_of_part(run, phase, loss_to_train_on(loss), share_of(share_of_all * weight, sum(weights)))
        phase.loss = None if loss is None else loss.detach()
        results.take()
    phase.samples = samples
    return results.join(sizes, by_loss or ())
