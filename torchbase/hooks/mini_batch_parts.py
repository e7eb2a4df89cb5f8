"""Computes each mini-batch in parts, and adds their gradients in a fixed order."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from torchbase.checkpoints.forward_state import copier_of
from torchbase.checkpoints.network_copy import NetworkCopier
from torchbase.data.parts import SplitMiniBatch, count_known_samples, count_samples, split_mini_batch
from torchbase.distributed.blocks import Block, share_out
from torchbase.distributed.processes import Processes
from torchbase.distributed.tree_sum import TreeSum
from torchbase.engine.abandoned import IterationAbandonedError
from torchbase.engine.closures import check_steps_without_closure
from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.optimizer_parameters import held_parameters
from torchbase.engine.part_results import LoggedParts, PartResults
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.engine.training_step import network_of, use_gradients
from torchbase.errors import HookError
from torchbase.files.durable import read_json, write_json
from torchbase.hooks.shared_state import StateToShare
from torchbase.randomness import seed_streams
from torchbase.run_directory.directory import RunDirectory
from torchbase.techniques.settings import is_count

PARTS_FILE = "states/parts.json"


class MiniBatchParts:
    """Computes each mini-batch in parts, and steps the optimizer once.

    A part is computed like a mini-batch of its own: its random numbers depend on the seed, the iteration and the number
    of the part, and batch normalization sees its samples only. Its gradients are weighted by its share of the samples,
    and added in a fixed order. Buffers, and all else that a forward pass changes in the network or in hooks, have the
    values from before the iteration when a part starts. After the iteration they have the values of the first part.

    Several processes share out the parts, and add their gradients: the result has the same bits for any number of
    processes. One process computes all parts one after the other, and needs memory for the activations of one part
    only.

    The session registers it for ``session.mini_batch_parts``, and under several processes. The hooks of `run_forward`,
    `on_loss_computed` and `run_backward` are then called for each part of this process, all others once per iteration.
    ``phase.outputs`` are those of all parts of this process, ``phase.loss`` and ``phase.values`` those of the whole
    mini-batch. In `on_iteration_start` and `run_iteration`, the mini-batch is a `SplitMiniBatch` if its loader reads
    parts.
    """

    shares_gradients = True

    def __init__(self, parts: int, infer_mini_batch_size: Callable[[Any], int] | None = None) -> None:
        """Sets the number of parts.

        Args:
            parts: The number of parts, at least 1. A mini-batch with fewer samples has as many parts as samples.
            infer_mini_batch_size: Takes a part, returns the number of its samples, by which it is weighted. None counts
                them.

        Raises:
            HookError: If ``parts`` isn't an integer of at least 1.
        """
        if not is_count(parts):
            raise HookError(f"MiniBatchParts expects the number of parts, at least 1, but got {parts!r}.")
        self._parts = parts
        self._counts_samples = infer_mini_batch_size is None
        self._infer_mini_batch_size = infer_mini_batch_size or count_known_samples
        self._copier: NetworkCopier | None = None
        self._parameters: list[torch.Tensor] = []
        self._blocks: list[Block] = []
        self._levels: list[int] = []

    @hookimpl
    def on_setup_start(self, run_directory: RunDirectory, processes: Processes) -> None:
        """Saves the number of parts in ``states/parts.json``, since a resumed run needs it."""
        file, parts = run_directory.file(PARTS_FILE), {"mini_batch_parts": self._parts}
        if processes.is_main and (not file.exists() or read_json(file) != parts):
            write_json(file, parts)

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Checks that the optimizer can be stepped, and that each process has a part."""
        check_steps_without_closure(run, "mini_batch_parts")
        if self._parts < run.processes.count:
            raise HookError(
                f"{run.processes.count} processes can't share {self._parts} parts of a mini-batch. To fix, start at "
                f"most {self._parts} processes, or set session.mini_batch_parts to at least {run.processes.count}."
            )

    @hookimpl
    def on_phase_start(self, run: Run, phase: Phase) -> None:
        """Looks up what each iteration needs."""
        self._copier = copier_of(run)
        self._blocks = share_out(self._parts, run.processes.count)
        self._levels = [block.level for block in self._blocks]
        if phase.is_training:  # an evaluation within the phase leaves them as they are
            held = held_parameters(run.optimizer) if run.optimizer is not None else {}
            of_network = {id(parameter): parameter for parameter in network_of(run).parameters()}
            self._parameters = list({**of_network, **held}.values())

    @hookimpl
    def run_iteration(self, run: Run, phase: Phase, batch: Any) -> None:
        """Computes the parts of this process, adds the gradients of all, then uses them."""
        accumulated = self._take_gradients(phase)  # of earlier mini-batches
        try:
            gradients = self._compute(run, phase, batch)
        finally:  # also if the iteration is abandoned, and the run continues
            if self._parts > 1 and run.randomness is not None:
                # What is drawn from here on must not depend on the parts that this process has computed.
                seed_streams(run.randomness.derive("after parts", phase.name, phase.progress.iterations), run.device)
        if phase.is_training:
            both = TreeSum()
            both.add(accumulated)
            both.add(gradients)
            for parameter, gradient in zip(self._parameters, both.total(), strict=True):
                parameter.grad = gradient
            use_gradients(run)

    def _compute(self, run: Run, phase: Phase, batch: Any) -> list[torch.Tensor | None]:
        parts = self._own_parts(run, phase, batch)
        sizes = {number: self._infer_mini_batch_size(part) for number, part in parts.items()}
        samples = self._samples_of_all(run, batch, sizes)
        first = batch.first if isinstance(batch, SplitMiniBatch) else 0
        source = next(index for index, block in enumerate(self._blocks) if first in block.parts)
        state = StateToShare(run, self._copier or copier_of(run), first, source, len(parts))
        results, gradients = PartResults(phase), TreeSum()
        try:
            for number in self._blocks[run.processes.index].parts:
                if number not in parts:
                    gradients.add([])  # so that the next ones keep their places in the tree
                    continue
                state.before_part()
                share = sizes[number] / samples
                run.call.run_part(run=run, phase=phase, batch=parts[number], part=number, share=share)
                state.after_part(number)
                results.take()
                gradients.add(self._take_gradients(phase))
        except IterationAbandonedError as error:
            results.abandon(error)
        logged = results.to_send(run, list(sizes.values()), note=state.changes)
        every, total = self._exchange(run, phase, logged, gradients.total() or [None] * len(self._parameters))
        state.share(results.join_all(run, every, source))
        phase.samples = samples
        return total

    def _exchange(
        self, run: Run, phase: Phase, logged: LoggedParts, gradients: list[torch.Tensor | None]
    ) -> tuple[list[LoggedParts], list[torch.Tensor | None]]:
        purpose = f"an iteration of {phase.name}"
        if not phase.is_training:
            return run.processes.gather(logged, purpose), gradients
        return run.processes.gather_and_reduce(logged, gradients, self._parameters, self._levels, purpose)

    def _own_parts(self, run: Run, phase: Phase, batch: Any) -> dict[int, Any]:
        if isinstance(batch, SplitMiniBatch):
            return {part.number: part.mini_batch for part in batch.parts}
        parts = split_mini_batch(batch, self._parts)
        if not parts:
            raise HookError(
                f"A mini-batch of {phase.name} can't be split into {self._parts} parts, since none of its columns has "
                "a dimension of samples. To fix, return a dictionary of tensors, arrays or lists with one entry per "
                "sample, or remove session.mini_batch_parts."
            )
        own = self._blocks[run.processes.index].parts
        return {number: part for number, part in enumerate(parts) if number in own}

    def _samples_of_all(self, run: Run, batch: Any, own_sizes: Mapping[int, int]) -> int:
        if run.processes.count == 1:
            return sum(own_sizes.values())
        if self._counts_samples and not isinstance(batch, SplitMiniBatch):
            return count_samples(batch)
        if self._counts_samples and batch.samples is not None:
            return int(batch.samples)
        return sum(run.processes.gather(sum(own_sizes.values()), "the number of samples of a mini-batch"))

    def _take_gradients(self, phase: Phase) -> list[torch.Tensor | None]:
        if not phase.is_training:  # there are none, except those of an accumulation that the phase interrupts
            return []
        gradients = [parameter.grad for parameter in self._parameters]
        for parameter in self._parameters:
            parameter.grad = None
        return gradients
