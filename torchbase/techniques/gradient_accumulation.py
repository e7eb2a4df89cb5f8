"""Accumulates gradients over several mini-batches."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.loss_weights import Weight, in_dtype_of, scale_gradient, share_of
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.engine.training_step import network_of
from torchbase.errors import HookError
from torchbase.techniques.settings import is_count


@dataclass
class _Count:
    """What was accumulated since the last step."""

    mini_batches: int = 0
    weight: Weight = 0
    expected: Weight = 1

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> "_Count":
        return cls(state["mini_batches"], state["samples"], state["expected"])

    def state(self) -> dict[str, Any]:
        numbers = {"samples": self.weight, "expected": self.expected}
        read = {name: one.item() if isinstance(one, torch.Tensor) else one for name, one in numbers.items()}
        return {"mini_batches": self.mini_batches, **read}


class GradientAccumulation:
    """Accumulates gradients over several mini-batches before each optimizer step.

    For effective mini-batches that don't fit into memory. The gradient equals that of one large mini-batch if the loss
    is a mean over samples and samples don't depend on each other (with batch normalization they do). Each mini-batch is
    weighted by its number of samples, or by what ``infer_loss_weight`` of the session returns, such as its tokens. The
    last step of an epoch uses the remaining mini-batches. If the length of the loader is unknown, they count towards
    the first step of the next epoch. Checkpoints include accumulated gradients. Of several optimizers, each accumulates
    the mini-batches of its turns; one without a turn in the last iteration of an epoch steps in the next one.

    Source: https://docs.pytorch.org/docs/stable/notes/amp_examples.html#gradient-accumulation

    Example:
        >>> hook = GradientAccumulation(4)
    """

    def __init__(self, mini_batches: int) -> None:
        """Sets the number of mini-batches.

        Args:
            mini_batches: The number of mini-batches per optimizer step, at least 1.

        Raises:
            HookError: If ``mini_batches`` isn't an integer of at least 1.
        """
        if not is_count(mini_batches):
            raise HookError(
                f"GradientAccumulation expects the number of mini-batches per step, at least 1, but got "
                f"{mini_batches!r}."
            )
        self._mini_batches_per_step = mini_batches
        self._counts: dict[str | None, _Count] = {None: _Count()}  # by turn

    @hookimpl(wrapper=True)
    def run_backward(self, run: Run, loss: torch.Tensor) -> Generator[None, Any, Any]:
        """Weights the gradient by the share of the mini-batch in the expected samples, or weight, of a step."""
        count = self._count_of(run)
        if count.mini_batches == 0:
            count.expected = self._expect(run.training)
        scale_gradient(loss, share_of(run.training.weight, count.expected))  # other hooks may scale it, too
        return (yield)

    # First, because it counts every mini-batch. It returns only False or None: other hooks may still prevent a step.
    @hookimpl(tryfirst=True)
    def should_step_optimizer(self, run: Run) -> bool | None:
        """Counts the mini-batch, and prevents the step until enough are accumulated."""
        count = self._count_of(run)
        if count.mini_batches == 0:  # again, since a process without a part of the mini-batch has no backward pass
            count.expected = self._expect(run.training)
        count.mini_batches += 1
        count.weight = count.weight + run.training.weight
        if count.mini_batches < self._mini_batches_per_step and not _is_last_of_epoch(run):
            return False
        # A comparison of tensors would wait for the device.
        if isinstance(count.weight, torch.Tensor) or count.weight != count.expected:
            factor = share_of(count.expected, count.weight)
            for parameter in network_of(run).parameters():
                if parameter.grad is not None:
                    parameter.grad.mul_(in_dtype_of(parameter.grad, factor))
        count.mini_batches, count.weight = 0, 0
        return None

    def _expect(self, phase: Phase) -> Weight:
        """Returns the weight of a step if each mini-batch weighs as much as this one, which is its first."""
        weight = phase.weight
        if isinstance(weight, torch.Tensor):
            weight = torch.where(weight > 0, weight, float(phase.samples))
        elif weight == 0:
            weight = phase.samples
        return weight * self._mini_batches_per_step

    def state_dict(self) -> dict[str, Any]:
        """Returns the counts since the last step."""
        of_turns = {turn: count.state() for turn, count in self._counts.items() if turn is not None}
        return self._counts[None].state() | ({"turns": of_turns} if of_turns else {})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the counts since the last step.

        Args:
            state: The return value of `state_dict`.
        """
        values = dict(state)
        of_turns = {turn: _Count.of_state(count) for turn, count in values.pop("turns", {}).items()}
        self._counts = {None: _Count.of_state(values), **of_turns}

    def _count_of(self, run: Run) -> _Count:
        return self._counts.setdefault(run.turn, _Count())


def _is_last_of_epoch(run: Run) -> bool:
    return run.progress.mini_batches + 1 == run.training.count_mini_batches(run.epoch)
