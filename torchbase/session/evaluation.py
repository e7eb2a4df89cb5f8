"""What can be done with the network of a run, while or after it is trained: evaluate it, predict with it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from torchbase import hooks as standard
from torchbase.data.phase_loader import end_workers
from torchbase.engine.loop import Engine
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.engine.training_step import TrainingStep
from torchbase.errors import DataError, RunDirectoryError
from torchbase.files.tensors import check_tensors, read_tensors
from torchbase.randomness import fence
from torchbase.run_directory.directory import RunDirectory
from torchbase.run_directory.names import NETWORK_FILE
from torchbase.session.building import VALIDATION_PREFIX
from torchbase.session.parts import SessionParts

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset


class SessionEvaluation(SessionParts):
    """Evaluation and prediction, on a session that was called or on one that has only opened a run directory."""

    engine: Engine
    _run_directory: RunDirectory
    _evaluated: Run | None = None  # what is logged meanwhile belongs to it

    def load_best_network(self) -> None:
        """Gives the network the weights of the best epoch, from ``network.pth`` of the run directory.

        Raises:
            RunDirectoryError: If the run has kept none, or the file is damaged.
        """
        self._run_directory.writes.wait()
        file = self._run_directory.path / NETWORK_FILE
        if not file.exists():
            raise RunDirectoryError(
                f"{file} isn't there: the run has kept no best network yet. To fix, train until an epoch is done."
            )
        check_tensors(file)
        self.network.load_state_dict(read_tensors(file))

    def evaluate(self, dataset: "Dataset | IterableDataset", name: str = "evaluation") -> dict[str, float]:
        """Computes loss and metrics of the network, as it is now, over a dataset; nothing is recorded.

        Hooks that do or wrap ``run_…`` events (automatic mixed precision, say) take part, no other.

        Args:
            dataset: The dataset.
            name: Its name. Under that of a validation set, what a random transform draws is the same as in the
                session's own validation of the current epoch.

        Returns:
            The values over all samples, by name.

        Raises:
            Exception: Whatever the user's methods raise.
        """
        phase = Phase(f"{VALIDATION_PREFIX}{name}", self._loader_of(dataset, name))
        run = Run(
            training=Phase("training", (), is_training=True),
            max_epochs=self._current_epoch(),
            validation=(phase,),
            network=self.network,
            metrics=self._metrics if self._metrics.names else None,
            device=self.device,
            randomness=self._randomness,
            epoch=self._current_epoch(),
        )
        step = TrainingStep(self.forward_pass, self.loss_function, self.get_loss_value, self.infer_mini_batch_size)
        doing = [hook for hook in list(self.engine.hooks.values())[2:] if _does_something(hook)]
        hooks = [standard.SeedCapture(), standard.Metrics(), standard.MetricAverages(), *doing]
        try:
            with self._evaluating(run):
                Engine(hooks=hooks, defaults=[step]).run_phase(run, phase)
        finally:
            end_workers([phase.loader])
        return dict(phase.averages)

    def predict(self, dataset: "Dataset | IterableDataset") -> Iterator[Mapping[str, Any]]:
        """Passes a dataset through ``forward_pass``, in its order and without gradients.

        Args:
            dataset: The dataset; it needs those columns that ``forward_pass`` reads.

        Yields:
            What ``forward_pass`` returned for each mini-batch.

        Raises:
            Exception: Whatever ``forward_pass`` raises.
        """
        for _, outputs in self._predict(dataset):
            yield outputs

    def predict_dataset(self, dataset: "Dataset | IterableDataset", keys: Sequence[str] | None = None) -> "Dataset":
        """Passes a dataset through ``forward_pass`` and collects what it returns, in memory.

        Args:
            dataset: The dataset.
            keys: Which outputs to keep; without them all that have a value for each sample.

        Returns:
            A dataset with a column for each output, row by row as the one that was given.

        Raises:
            DataError: If an output that was asked for isn't there, or has no value for each sample.
            Exception: Whatever ``forward_pass`` raises.
        """
        from datasets import Dataset, concatenate_datasets

        parts = [_columns_of(outputs, samples, keys) for samples, outputs in self._predict(dataset)]
        in_each = [name for name in parts[0] if all(name in part for part in parts)]
        return concatenate_datasets([Dataset.from_dict({name: part[name] for name in in_each}) for part in parts])

    def _predict(self, dataset: "Dataset | IterableDataset") -> Iterator[tuple[int, Mapping[str, Any]]]:
        loader = self._loader_of(dataset, "prediction")
        phase = Phase(f"{VALIDATION_PREFIX}prediction", loader)  # takes what forward_pass logs, and is forgotten
        run = Run(training=Phase("training", (), is_training=True), max_epochs=1, current_phase=phase)
        try:
            for batch in loader:
                # Nothing is held while the caller has its turn: the network's mode and the random streams are put back.
                with self._evaluating(run), torch.no_grad():
                    outputs = self.forward_pass(batch)
                yield self.infer_mini_batch_size(batch), outputs
        finally:
            end_workers([loader])

    def _loader_of(self, dataset: "Dataset | IterableDataset", name: str) -> Any:
        return self._loader(dataset, f"{VALIDATION_PREFIX}{name}", is_training=False)

    def _current_epoch(self) -> int:
        run: Run | None = vars(self).get("_run")
        return max(1, run.epoch) if run is not None else 1

    @contextmanager
    def _evaluating(self, run: Run) -> Iterator[None]:
        was_training, run_before = self.network.training, self._evaluated
        self.network.eval()
        self._evaluated = run
        try:
            with fence(self.device):
                yield
        finally:
            self._evaluated = run_before
            self.network.train(was_training)


def _does_something(hook: object) -> bool:
    return any(name.startswith("run_") for name in dir(type(hook))) and not isinstance(hook, standard.NanSkip)


def _columns_of(outputs: Mapping[str, Any], samples: int, keys: Sequence[str] | None) -> dict[str, Any]:
    columns = {name: _as_column(value) for name, value in outputs.items() if keys is None or name in keys}
    fitting = {name: column for name, column in columns.items() if column is not None and len(column) == samples}
    for name in keys if keys is not None else ():
        if name not in fitting:
            wrong = "it isn't there" if name not in outputs else "it has no value for each sample"
            raise DataError(
                f"The output {name!r} of forward_pass can't be a column: {wrong}. To fix, choose among "
                f"{', '.join(map(repr, outputs))}."
            )
    return fitting


def _as_column(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = value.float() if value.dtype == torch.bfloat16 else value
        return value.numpy() if value.dim() else None
    return list(value) if isinstance(value, list | tuple) else None
