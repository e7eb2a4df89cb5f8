"""Evaluation of the network of a run, and prediction with it, during or after training."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from torchbase import hooks as standard
from torchbase.checkpoints.network_loading import load_network
from torchbase.data.kinds import check_readable
from torchbase.data.parts import SplitMiniBatch, join_outputs
from torchbase.data.phase_loader import end_workers
from torchbase.engine.loop import Engine
from torchbase.engine.mini_batch_notes import add_faults, add_note, rows_of
from torchbase.engine.modes import modes_restored
from torchbase.engine.part_results import gather_outputs
from torchbase.engine.phase import PartOutputs, Phase
from torchbase.engine.run import Run
from torchbase.engine.training_step import TrainingStep
from torchbase.errors import DataError, ProcessError, RunDirectoryError, did_you_mean
from torchbase.files.tensors import check_tensors, map_tensors
from torchbase.randomness.streams import isolate_rng
from torchbase.randomness.thread_turns import one_thread_at_a_time
from torchbase.run_directory.best_networks import read_best_networks
from torchbase.run_directory.directory import RunDirectory
from torchbase.run_directory.names import NETWORK_FILE, VALIDATION_PREFIX
from torchbase.session.constructor import set_by_constructor
from torchbase.session.lazy_modules import materialize
from torchbase.session.likeness import describe_dataset
from torchbase.session.parts import SessionParts
from torchbase.session.prediction_columns import columns_of, concatenate
from torchbase.session.together import tell_result

if TYPE_CHECKING:
    from datasets import Dataset


class SessionEvaluation(SessionParts):
    """Evaluation and prediction, for a session that has trained or has only opened a run directory.

    With several processes, all of them call these methods, with the same dataset. They share out the samples, and each
    gets the whole result.
    """

    engine: Engine = set_by_constructor()
    _run_directory: RunDirectory = set_by_constructor()
    _evaluated: Run | None = None  # receives the values logged meanwhile

    def load_best_network(self, file: str = NETWORK_FILE) -> None:
        """Loads the weights of the best epoch into the network, or those of another file of networks.

        Args:
            file: The name of the file in the run directory: the best network, or one of those that `KeepBest` lists.

        Raises:
            RunDirectoryError: If the run hasn't saved the file, or the file is damaged.
        """
        with _called_on_all("load_best_network"):
            tell_result(self.processes, self._run_directory.writes.wait, "the best network")
        path = self._run_directory.path / file
        if not path.exists():
            raise RunDirectoryError(f"{path} isn't there{_what_is_there(self._run_directory.path, file)}")
        with _called_on_all("load_best_network"):
            tell_result(self.processes, partial(check_tensors, path), "the check of the best network")
        load_network(self.network, map_tensors(path))

    def evaluate(self, dataset: Any, name: str = "evaluation") -> dict[str, float]:
        """Computes loss and metrics of the current network over a dataset. Nothing is recorded.

        Only hooks that implement or wrap ``run_…`` events are called, e.g. automatic mixed precision.

        Args:
            dataset: The dataset.
            name: The name of the dataset. With the name of a validation set, random transforms draw the same numbers as
                in the session's own validation of the current epoch.

        Returns:
            The values over all samples, by name.

        Raises:
            Exception: Any error of the user's methods.
        """
        self._check_dataset(dataset, "evaluate")
        phase = Phase(f"{VALIDATION_PREFIX}{name}", self._loader_of(dataset, name))
        run = Run(
            training=Phase("training", (), is_training=True),
            max_epochs=self._current_epoch(),
            validation=(phase,),
            network=self.network,
            metrics=self._metrics if self._metrics.names else None,
            loss_weights=self._loss_weights,
            device=self.device,
            randomness=self._randomness,
            processes=self.processes,
            epoch=self._current_epoch(),
        )
        step = TrainingStep(self.forward_pass, self.loss_function, self.get_loss_value, self.infer_mini_batch_size)
        implementing = [hook for hook in list(self.engine.hooks.values())[2:] if _runs_part_of_iteration(hook)]
        hooks = [standard.SeedCapture(), standard.Metrics(), standard.MetricAverages(), *implementing]
        try:
            with self._evaluating(run):
                Engine(hooks=hooks, defaults=[step]).run_phase(run, phase)
        finally:
            end_workers([phase.loader])
        return dict(phase.averages)

    def predict(self, dataset: Any) -> Iterator[Mapping[str, Any]]:
        """Passes a dataset through ``forward_pass``, in order and without gradients.

        Args:
            dataset: The dataset. It needs the columns that ``forward_pass`` reads.

        Yields:
            The outputs of ``forward_pass`` for each mini-batch. With several processes, each has to take them all.

        Raises:
            Exception: Any error of ``forward_pass``.
        """
        for _, outputs in self._predict(dataset, "predict"):
            yield outputs

    def predict_dataset(self, dataset: Any, keys: Sequence[str] | None = None) -> "Dataset":
        """Passes a dataset through ``forward_pass`` and collects the outputs in memory.

        Args:
            dataset: The dataset.
            keys: The names of the outputs to collect; None collects all outputs with one value per sample.

        Returns:
            A dataset with a column for each output. Its rows are in the order of ``dataset``.

        Raises:
            DataError: If ``keys`` is a single string. If the dataset is empty. If a requested output is missing or
                doesn't have one value per sample. If the values of an output can't be stored, or change their type
                between mini-batches.
            Exception: Any error of ``forward_pass``.
        """
        if isinstance(keys, str):
            raise DataError(f"keys has to be a list of names of outputs, but got {keys!r}. To fix, pass [{keys!r}].")
        predicted = self._predict(dataset, "predict_dataset", keys)
        parts = [columns_of(outputs, samples, keys) for samples, outputs in predicted]
        if not parts:
            raise DataError(
                "The dataset to predict is empty, so the columns of the result are unknown. To fix, check what "
                "selected its rows."
            )
        in_each = [name for name in parts[0] if all(name in part for part in parts)]
        return concatenate([{name: part[name] for name in in_each} for part in parts])

    def _predict(
        self, dataset: Any, caller: str, keys: Sequence[str] | None = None
    ) -> Iterator[tuple[int, Mapping[str, Any]]]:
        self._check_dataset(dataset, caller)
        loader = self._loader_of(dataset, "prediction")
        # It receives the values that forward_pass logs, and is discarded.
        phase = Phase(f"{VALIDATION_PREFIX}prediction", loader)
        run = Run(training=Phase("training", (), is_training=True), max_epochs=1, current_phase=phase)
        self._held.begin_phase(self._number_of_parts, self.processes)
        try:
            for position, batch in enumerate(loader):
                # Left before the yield, so the caller finds the modes of the network and the random streams restored.
                with self._evaluating(run), torch.no_grad():
                    try:
                        parts = self._forward_parts(batch)
                    except Exception as error:
                        place = f"with mini-batch {position + 1} of the prediction"
                        add_note(error, place, batch, rows_of(loader, 1, position))
                        add_faults(error, loader, 1, position)
                        raise
                yield self._join_parts(parts, isinstance(batch, SplitMiniBatch), keys)
        finally:
            end_workers([loader])

    def _forward_parts(self, batch: Any) -> list[PartOutputs]:
        if not isinstance(batch, SplitMiniBatch):
            return [PartOutputs(self.infer_mini_batch_size(batch), self.forward_pass(batch))]
        found = []
        own = {part.number: part.mini_batch for part in batch.parts}
        for part in self._held.parts_to_compute(own, batch.with_samples):
            if part is not None:
                with self._held.computing("a mini-batch of a prediction"):
                    outputs = self.forward_pass(part.mini_batch)
                if not part.is_substitute:
                    found.append(PartOutputs(self.infer_mini_batch_size(part.mini_batch), outputs, part.number))
        return found

    def _join_parts(
        self, parts: list[PartOutputs], is_split: bool, keys: Sequence[str] | None
    ) -> tuple[int, Mapping[str, Any]]:
        if not is_split:
            return parts[0].size, parts[0].outputs
        if self.processes.count == 1:
            sizes = [part.size for part in parts]
            return sum(sizes), join_outputs([part.outputs for part in parts], sizes)
        if keys is not None and all(key in part.outputs for part in parts for key in keys):
            parts = [part._replace(outputs={key: part.outputs[key] for key in keys}) for part in parts]
        with _called_on_all("predict"):
            return gather_outputs(self.processes, parts, self.device, "the outputs of a mini-batch of a prediction")

    def _check_dataset(self, dataset: Any, caller: str) -> None:
        with _called_on_all(caller):
            processes = self.processes  # first, since it is missing if the constructor wasn't called
            check_readable(dataset, caller)
            processes.agree(describe_dataset(dataset) if processes.count > 1 else None, f"the dataset of {caller}")

    def _loader_of(self, dataset: Any, name: str) -> Any:
        return self._loader(dataset, f"{VALIDATION_PREFIX}{name}", is_training=False)

    def _current_epoch(self) -> int:
        run: Run | None = vars(self).get("_run")
        return max(1, run.epoch) if run is not None else 1

    def _materialize(self, network: torch.nn.Module) -> None:
        training = Phase("training", self._training_loader, is_training=True)
        self.network = network  # until it is built, since forward_pass uses it
        try:
            with self._evaluating(Run(training, max_epochs=1, current_phase=training)):
                materialize(network, self.forward_pass, training.loader)
        finally:
            del self.network

    @contextmanager
    def _evaluating(self, run: Run) -> Iterator[None]:
        with one_thread_at_a_time(), isolate_rng(self.device), modes_restored(self.network):
            run_before, self._evaluated = self._evaluated, run
            self.network.eval()
            try:
                yield
            finally:
                self._evaluated = run_before


@contextmanager
def _called_on_all(method: str) -> Iterator[None]:
    try:
        yield
    except ProcessError as error:
        error.add_note(f"All processes have to call {method}, at the same place of the program.")
        raise


def _runs_part_of_iteration(hook: object) -> bool:
    replaced = isinstance(hook, standard.SeedCapture | standard.NanSkip)
    return any(name.startswith("run_") for name in dir(type(hook))) and not replaced


def _what_is_there(run_directory: Path, file: str) -> str:
    if file == NETWORK_FILE:
        return ": the run has saved no best network yet. To fix, train for at least one epoch."
    best = read_best_networks(run_directory)
    files = [] if best is None else [one.file for one in best.networks]
    listed = ", ".join([NETWORK_FILE, *files])
    return f".{did_you_mean(file, files)} To fix, pass one of the networks of the run: {listed}."
