"""Computes each mini-batch in parts, and adds their gradients in a fixed order."""

from collections.abc import Callable
from typing import Any

import torch

from torchbase.checkpoints.forward_state import ForwardState, copier_of
from torchbase.checkpoints.network_copy import NetworkCopier
from torchbase.data.parts import SplitMiniBatch, count_samples, split_mini_batch
from torchbase.distributed.tree_sum import TreeSum
from torchbase.engine.closures import check_steps_without_closure
from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.optimizer_parameters import held_parameters
from torchbase.engine.part_results import PartResults
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.engine.training_step import network_of, use_gradients
from torchbase.errors import HookError
from torchbase.techniques.settings import is_count


class MiniBatchParts:
    """Computes each mini-batch in parts, one after the other, and steps the optimizer once.

    Memory is needed for the activations of one part only. A part is computed like a mini-batch of its own: its random
    numbers depend on the seed, the iteration and the number of the part, and batch normalization sees its samples only.
    Its gradients are weighted by its share of the samples, and added in a fixed order. Buffers, and all else that a
    forward pass changes in the network or in hooks, have the values from before the iteration when a part starts. After
    the iteration they have the values of the first part.

    The session registers it for ``session.mini_batch_parts``. The hooks of `run_forward`, `on_loss_computed` and
    `run_backward` are then called for each part, all others once per iteration. ``phase.outputs`` are those of all
    parts. In `on_iteration_start` and `run_iteration`, the mini-batch is a `SplitMiniBatch` if its loader reads parts.
    """

    def __init__(self, parts: int, infer_mini_batch_size: Callable[[Any], int] = count_samples) -> None:
        """Sets the number of parts.

        Args:
            parts: The number of parts, at least 1. A mini-batch with fewer samples has as many parts as samples.
            infer_mini_batch_size: Takes a part, returns the number of its samples, by which it is weighted.

        Raises:
            HookError: If ``parts`` isn't an integer of at least 1.
        """
        if not is_count(parts):
            raise HookError(f"MiniBatchParts expects the number of parts, at least 1, but got {parts!r}.")
        self._parts, self._infer_mini_batch_size = parts, infer_mini_batch_size
        self._copier: NetworkCopier | None = None
        self._parameters: list[torch.Tensor] = []

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Checks that the optimizer can be stepped."""
        check_steps_without_closure(run, "mini_batch_parts")

    @hookimpl
    def on_phase_start(self, run: Run, phase: Phase) -> None:
        """Looks up what each iteration needs."""
        self._copier = copier_of(run)
        held = held_parameters(run.optimizer) if run.optimizer is not None and phase.is_training else {}
        of_network = {id(parameter): parameter for parameter in network_of(run).parameters()}
        self._parameters = list({**of_network, **held}.values())

    @hookimpl
    def run_iteration(self, run: Run, phase: Phase, batch: Any) -> None:
        """Computes the parts, then uses their gradients."""
        accumulated = self._take_gradients()  # of earlier mini-batches
        gradients = self._compute(run, phase, self._split(batch, phase))
        if phase.is_training:
            both = TreeSum()
            both.add(accumulated)
            both.add(gradients)
            for parameter, gradient in zip(self._parameters, both.total(), strict=True):
                parameter.grad = gradient
            use_gradients(run)

    def _compute(self, run: Run, phase: Phase, parts: dict[int, Any]) -> list[torch.Tensor | None]:
        copier = self._copier or copier_of(run)
        sizes = [self._infer_mini_batch_size(part) for part in parts.values()]
        before = ForwardState(run, copier) if len(parts) > 1 else None
        after, results, gradients = None, PartResults(phase), TreeSum()
        for (number, part), size in zip(parts.items(), sizes, strict=True):
            if before is not None and number > 0:
                after = after or ForwardState(run, copier)
                before.restore()
            run.call.run_part(run=run, phase=phase, batch=part, part=number, share=size / sum(sizes))
            results.take()
            gradients.add(self._take_gradients())
        if after is not None:
            after.restore()
        results.join(sizes)
        phase.samples = sum(sizes)
        return gradients.total()

    def _split(self, batch: Any, phase: Phase) -> dict[int, Any]:
        if isinstance(batch, SplitMiniBatch):
            return {part.number: part.mini_batch for part in batch.parts}
        parts = split_mini_batch(batch, self._parts)
        if not parts:
            raise HookError(
                f"A mini-batch of {phase.name} can't be split into {self._parts} parts, since none of its columns has "
                "a dimension of samples. To fix, return a dictionary of tensors, arrays or lists with one entry per "
                "sample, or remove session.mini_batch_parts."
            )
        return dict(enumerate(parts))

    def _take_gradients(self) -> list[torch.Tensor | None]:
        gradients = [parameter.grad for parameter in self._parameters]
        for parameter in self._parameters:
            parameter.grad = None
        return gradients
