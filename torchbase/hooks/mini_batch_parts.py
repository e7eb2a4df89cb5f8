"""Computes each mini-batch in parts, and adds their gradients in a fixed order."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from torchbase.checkpoints.forward_state import copier_of
from torchbase.checkpoints.network_copy import NetworkCopier
from torchbase.data.parts import SplitMiniBatch, count_known_samples, count_samples, split_mini_batch
from torchbase.distributed.freed_memory import reuse_freed_memory
from torchbase.distributed.processes import Processes
from torchbase.distributed.tree_sum import TreeSum
from torchbase.engine.abandoned import IterationAbandonedError
from torchbase.engine.closures import check_steps_without_closure
from torchbase.engine.held_network import HeldNetwork, PartToCompute, ReplicatedNetwork
from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.loss_weights import Weight, share_of
from torchbase.engine.optimizer_parameters import held_parameters
from torchbase.engine.part_results import PartResults
from torchbase.engine.part_weights import samples_and_weight_of_all, weight_of_whole, weights_of_parts
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.engine.training_step import network_of, use_gradients
from torchbase.errors import HookError
from torchbase.files.durable import read_json, write_json
from torchbase.hooks.shared_state import StateToShare
from torchbase.randomness.streams import seed_streams
from torchbase.run_directory.directory import RunDirectory
from torchbase.techniques.settings import is_count

PARTS_FILE = "states/parts.json"


class MiniBatchParts:
    """Computes each mini-batch in parts, and steps the optimizer once.

    A part is computed like a mini-batch of its own: its random numbers depend on the seed, the iteration and the number
    of the part, and batch normalization sees its samples only. Its gradients are weighted by its share of the samples,
    or of what ``infer_loss_weight`` of the session returns, and added in a fixed order. Buffers, and all else that a
    forward pass changes in the network or in hooks, have the values from before the iteration when a part starts. After
    the iteration they have the values of the first part.

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

    def __init__(
        self,
        parts: int,
        infer_mini_batch_size: Callable[[Any], int] | None = None,
        held: HeldNetwork | None = None,
    ) -> None:
        """Sets the number of parts.

        Args:
            parts: The number of parts, at least 1. A mini-batch with fewer samples has as many parts as samples.
            infer_mini_batch_size: Takes a part, returns the number of its samples, by which it is weighted. None counts
                them.
            held: How the processes hold the network; by default, each holds all of it.

        Raises:
            HookError: If ``parts`` isn't an integer of at least 1.
        """
        if not is_count(parts):
            raise HookError(f"MiniBatchParts expects the number of parts, at least 1, but got {parts!r}.")
        self._parts = parts
        self._counts_samples = infer_mini_batch_size is None
        self._infer_mini_batch_size = infer_mini_batch_size or count_known_samples
        self._copier: NetworkCopier | None = None
        self._held = held or ReplicatedNetwork()

    @hookimpl
    def on_setup_start(self, run_directory: RunDirectory, processes: Processes) -> None:
        """Saves the number of parts in ``states/parts.json``, since a resumed run needs it."""
        file, parts = run_directory.file(PARTS_FILE), {"mini_batch_parts": self._parts}
        if processes.is_main and (not file.exists() or read_json(file) != parts):
            write_json(file, parts)

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Checks that the optimizer can be stepped, and that each process has a part."""
        if self._parts > 1:
            reuse_freed_memory()
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
        self._held.begin_phase(self._parts, run.processes)
        if phase.is_training:  # an evaluation within the phase leaves them as they are
            held = held_parameters(run.optimizer) if run.optimizer is not None else {}
            of_network = {id(parameter): parameter for parameter in network_of(run).parameters()}
            self._held.train(list({**of_network, **held}.values()))

    @hookimpl
    def run_iteration(self, run: Run, phase: Phase, batch: Any) -> None:
        """Computes the parts of this process, adds the gradients of all, then uses them."""
        if not phase.is_training:
            self._compute(run, phase, batch)
            return
        self.compute_gradients(run, phase, batch)
        use_gradients(run)

    def compute_gradients(self, run: Run, phase: Phase, batch: Any) -> None:
        """Computes the gradients of all parts, and adds them to those of earlier mini-batches.

        Args:
            run: The run.
            phase: The training phase.
            batch: The mini-batch.
        """
        accumulated = self._held.take()
        both = TreeSum()
        both.add(accumulated)
        both.add(self._compute(run, phase, batch))
        self._held.give(both.total())

    def _compute(self, run: Run, phase: Phase, batch: Any) -> list[torch.Tensor | None]:
        try:
            return self._compute_parts(run, phase, batch)
        finally:  # also if the iteration is abandoned, and the run continues
            if self._parts > 1 and run.randomness is not None:
                # What is drawn from here on must not depend on the parts that this process has computed.
                purpose = ("after parts", phase.name, phase.progress.iterations)
                turn = () if run.turn is None else (run.turn,)
                seed_streams(run.randomness.derive(*purpose, *turn), run.device)

    def _compute_parts(self, run: Run, phase: Phase, batch: Any) -> list[torch.Tensor | None]:
        parts, with_samples = self._parts_of(run, phase, batch)
        sizes = {number: self._infer_mini_batch_size(part) for number, part in parts.items()}
        weights = weights_of_parts(run, parts)
        samples, of_all = self._samples_and_weight_of_all(run, batch, sizes, weights)
        source = self._held.owner_of(with_samples[0])
        computed = self._held.count_to_compute(parts, with_samples)
        state = StateToShare(run, self._copier or copier_of(run), with_samples[0], source, computed)
        results, gradients = PartResults(phase), TreeSum()
        purpose = f"an iteration of {phase.name}"
        try:
            for part in self._held.parts_to_compute(parts, with_samples):
                if part is None:
                    gradients.add([])  # so that the next ones keep their places in the tree
                    continue
                state.before_part()
                share = self._share(run, part, sizes if weights is None else weights, of_all)
                with self._held.computing(purpose):
                    run.call.run_part(run=run, phase=phase, batch=part.mini_batch, part=part.number, share=share)
                if part.is_substitute:
                    results.drop()
                else:
                    state.after_part(part.number)
                    results.take()
                if phase.is_training:
                    gradients.add(self._held.take_of_part(part))
        except IterationAbandonedError as error:
            results.abandon(error)
        logged = results.to_send(run, sizes, note=state.changes, weights=weights)
        of_process = gradients.total() if phase.is_training else None
        every, total = self._held.exchange(run, logged, of_process, purpose)
        state.share(results.join_all(run, every, source))
        phase.samples = samples
        return total

    def _parts_of(self, run: Run, phase: Phase, batch: Any) -> tuple[dict[int, Any], Sequence[int]]:
        if isinstance(batch, SplitMiniBatch):
            return {part.number: part.mini_batch for part in batch.parts}, batch.with_samples
        if (samples := count_samples(batch)) == 0:
            raise HookError(
                f"A mini-batch of {phase.name} can't be split into {self._parts} parts, since none of its columns has "
                "a dimension of samples. To fix, return a dictionary of tensors, arrays or lists with one entry per "
                "sample, or remove session.mini_batch_parts."
            )
        own = self._held.own_parts(self._parts, run.processes)
        # The last ones may be empty.
        parts = dict(zip(own, split_mini_batch(batch, self._parts, own), strict=False))
        return parts, range(min(self._parts, samples))

    def _share(self, run: Run, part: PartToCompute, weights: Mapping[int, Weight], of_all: Weight) -> Weight:
        if not part.is_substitute:
            return share_of(weights[part.number], of_all)
        infer = self._infer_mini_batch_size if run.loss_weights is None else run.loss_weights.of
        return share_of(infer(part.mini_batch), of_all)

    def _samples_and_weight_of_all(
        self, run: Run, batch: Any, sizes: Mapping[int, int], weights: Mapping[int, Weight] | None
    ) -> tuple[int, Weight]:
        if weights is None:
            samples = self._samples_of_all(run, batch, sizes)
            return samples, samples
        if run.processes.count == 1 or not isinstance(batch, SplitMiniBatch):
            return self._samples_of_all(run, batch, sizes), weight_of_whole(run, batch, self._parts, weights)
        return samples_and_weight_of_all(run, sizes, weights)

    def _samples_of_all(self, run: Run, batch: Any, own_sizes: Mapping[int, int]) -> int:
        if run.processes.count == 1:
            return sum(own_sizes.values())
        if self._counts_samples and not isinstance(batch, SplitMiniBatch):
            return count_samples(batch)
        if self._counts_samples and batch.samples is not None:
            return int(batch.samples)
        return sum(run.processes.gather(sum(own_sizes.values()), "the number of samples of a mini-batch"))
