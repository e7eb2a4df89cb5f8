"""Does a mini-batch that doesn't fit into memory in parts."""

import logging
import traceback
from collections.abc import Generator, Sequence
from typing import Any

import torch

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.engine.training_step import compute_loss, use_gradients
from torchbase.errors import HookError
from torchbase.techniques.iteration_state import StateBeforeIteration
from torchbase.techniques.mini_batch_parts import count_samples, join_outputs, split_mini_batch

logger = logging.getLogger("torchbase")


class RetryOnOutOfMemory:
    """Does an iteration again in halves, then quarters and so on, when the device has no memory for it.

    For data whose samples differ in size. The gradient is that of the undivided mini-batch where the loss is a mean
    over samples and no sample depends on others (batch normalization does), and the optimizer steps once. Before each
    try the random streams, buffers and gradients are put back. Other hooks hear of one iteration, with several losses.
    A first mini-batch that doesn't fit is found by the rehearsal, which tries it in parts, too.

    When memory runs out depends on the machine, and with it the last bits of what is learnt: a run in which that
    happened doesn't repeat itself on another. Each iteration copies what it may have to put back: random states and
    buffers, and gradients where they are accumulated.

    Source: https://docs.pytorch.org/docs/stable/notes/faq.html#my-out-of-memory-exception-handler-can-t-allocate-memory

    Example:
        >>> hook = RetryOnOutOfMemory()
    """

    def __init__(self) -> None:
        self._is_in_iteration = self._has_gradients = False

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Refuses a run whose iterations are done in another way than by the events that this hook tells again."""
        others = [name for name, hook in run.hooks.items() if name != "training_step" and _does_iterations(hook)]
        if others or "training_step" not in run.hooks:
            raise HookError(
                "RetryOnOutOfMemory does iterations again as TrainingStep does them, and here "
                f"{' and '.join(map(repr, others)) or 'no training_step'} does. To fix, leave one of them out."
            )

    @hookimpl(wrapper=True)
    def run_iteration(self, run: Run, phase: Phase, batch: Any) -> Generator[None, Any, Any]:
        """Does the iteration, in parts if need be."""
        before = StateBeforeIteration(run, phase)
        self._is_in_iteration, self._has_gradients = True, False
        try:
            try:
                return (yield)
            except torch.OutOfMemoryError as error:
                if self._has_gradients:
                    error.add_note("when the gradients were there already, so that smaller mini-batches don't help")
                    raise
                _forget(error, run)
            _compute_in_parts(run, phase, batch, before, has_backward=phase.is_training)
            if phase.is_training:
                use_gradients(run)
            return None
        finally:
            self._is_in_iteration = False

    # First: what any hook does with the gradients may not be done twice.
    @hookimpl(tryfirst=True)
    def on_gradients_ready(self) -> None:
        """Notes that the iteration can't be done again from here on."""
        self._has_gradients = True

    @hookimpl(wrapper=True)
    def run_forward(self, run: Run, phase: Phase, batch: Any) -> Generator[None, Any, Any]:
        """Does a forward pass that is no iteration, as the rehearsal does, in parts if need be."""
        if self._is_in_iteration:
            return (yield)
        before = StateBeforeIteration(run, phase)
        self._is_in_iteration = True
        try:
            try:
                return (yield)
            except torch.OutOfMemoryError as error:
                _forget(error, run)
            return _compute_in_parts(run, phase, batch, before, has_backward=False)
        finally:
            self._is_in_iteration = False


def _does_iterations(hook: object) -> bool:
    options = getattr(getattr(hook, "run_iteration", None), "torchbase_impl", None)
    return options is not None and not options["wrapper"] and not options["hookwrapper"]


def _forget(error: torch.OutOfMemoryError, run: Run) -> None:
    # The frames of the traceback hold what filled the memory.
    traceback.clear_frames(error.__traceback__)
    if run.device.type != "cpu":
        torch.get_device_module(run.device).empty_cache()


def _compute_in_parts(
    run: Run, phase: Phase, batch: Any, before: StateBeforeIteration, *, has_backward: bool
) -> torch.Tensor:
    samples, number = count_samples(batch), 1
    while number < samples:
        number = min(2 * number, samples)
        before.restore()
        try:
            loss = _compute_parts(run, phase, split_mini_batch(batch, number), has_backward)
        except torch.OutOfMemoryError as error:
            _forget(error, run)
            continue
        logger.info("%d samples of %s didn't fit into memory together; done in %d parts.", samples, phase.name, number)
        return loss
    raise torch.OutOfMemoryError(
        f"A mini-batch of {samples} samples of {phase.name} doesn't fit into memory, not even sample by sample."
    )


def _compute_parts(run: Run, phase: Phase, parts: Sequence[Any], has_backward: bool) -> torch.Tensor:
    sizes = [count_samples(part) for part in parts]
    logged, done, samples = phase.values, [], 0
    for part, size in zip(parts, sizes, strict=True):
        phase.values, share = {}, size / sum(sizes)
        with torch.set_grad_enabled(phase.is_training):
            loss = compute_loss(run, phase, part)
        outputs = {name: _detached(one) for name, one in (phase.outputs or {}).items()}
        done.append((outputs, phase.values, {"loss": loss.detach()}))
        samples += phase.samples
        if has_backward:
            phase.samples = round(phase.samples / share)  # those of the whole, for hooks that weight by them
            loss.register_hook(lambda gradient, share=share: gradient * share)  # type: ignore[no-untyped-call]
            run.call.run_backward(run=run, loss=loss)
    phase.outputs, values, whole = (join_outputs(one, sizes) for one in zip(*done, strict=True))
    phase.samples, phase.values, phase.loss = samples, {**logged, **values}, whole["loss"]
    return phase.loss


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, torch.Tensor) else value
