"""Spreads a step of the optimizer over several mini-batches."""

from collections.abc import Generator, Mapping
from typing import Any

import torch

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.run import Run
from torchbase.engine.training_step import network_of
from torchbase.errors import HookError


class GradientAccumulation:
    """Lets the optimizer step once for several mini-batches, by the gradient of all their samples together.

    For mini-batches that don't fit into memory: the gradient is that of one large mini-batch, where the loss is a mean
    over samples and no sample depends on others (batch normalization does). Each mini-batch counts by its samples. The
    last step of an epoch is by those mini-batches that are left; where the loader doesn't know how many there are, they
    are carried over into the next epoch. Gradients that wait for a step are kept in checkpoints.

    Source: https://docs.pytorch.org/docs/stable/notes/amp_examples.html#gradient-accumulation

    Example:
        >>> hook = GradientAccumulation(4)
    """

    def __init__(self, mini_batches: int) -> None:
        """Sets how many.

        Args:
            mini_batches: How many mini-batches make a step, at least 1.

        Raises:
            HookError: If it isn't a whole number of at least 1.
        """
        if not isinstance(mini_batches, int) or isinstance(mini_batches, bool) or mini_batches < 1:
            raise HookError(
                f"GradientAccumulation takes how many mini-batches make a step, at least 1, and got {mini_batches!r}."
            )
        self._mini_batches_of_a_step = mini_batches
        self._expected_samples = 1
        self._mini_batches = self._samples = 0  # of the step that is waited for

    @hookimpl(wrapper=True)
    def run_backward(self, run: Run, loss: torch.Tensor) -> Generator[None, Any, Any]:
        """Weights the mini-batch by its share of the samples that are expected of a step."""
        if self._mini_batches == 0:
            self._expected_samples = run.training.samples * self._mini_batches_of_a_step
        share = run.training.samples / self._expected_samples
        # Scales the gradient as scaling the loss would, and leaves the loss to those who look at it; other hooks may
        # scale it the same way.
        loss.register_hook(lambda gradient: gradient * share)  # type: ignore[no-untyped-call]
        return (yield)

    # First, since it has to hear of every mini-batch. It only ever answers no: whether to step then is left to others.
    @hookimpl(tryfirst=True)
    def should_step_optimizer(self, run: Run) -> bool | None:
        """Counts the mini-batch, and decides whether the step waits for more."""
        self._mini_batches += 1
        self._samples += run.training.samples
        if self._mini_batches < self._mini_batches_of_a_step and not _is_last_of_epoch(run):
            return False
        if self._samples != self._expected_samples:
            for parameter in network_of(run).parameters():
                if parameter.grad is not None:
                    parameter.grad.mul_(self._expected_samples / self._samples)
        self._mini_batches = self._samples = 0
        return None

    def state_dict(self) -> dict[str, Any]:
        """Gives what was counted of a step that is waited for."""
        return {"mini_batches": self._mini_batches, "samples": self._samples, "expected": self._expected_samples}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes what was counted.

        Args:
            state: What `state_dict` gave.
        """
        self._mini_batches, self._samples = state["mini_batches"], state["samples"]
        self._expected_samples = state["expected"]


def _is_last_of_epoch(run: Run) -> bool:
    try:
        length = len(run.training.loader)  # type: ignore[arg-type]
    except TypeError:  # a stream, or another iterable without a length
        return False
    return run.progress.mini_batches + 1 == length
