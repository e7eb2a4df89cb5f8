"""The parts that a session is built of, each when it is first needed."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from torchbase.data.phase_loader import phase_loader
from torchbase.data.validation_datasets import ValidationDatasetsDict
from torchbase.metrics.selection import SelectedMetrics, select_metrics
from torchbase.randomness import Randomness
from torchbase.session import building
from torchbase.session.run_source import Runs
from torchbase.session.user_methods import UserMethods

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset
    from torch.optim.lr_scheduler import LRScheduler

    from torchbase.hooks import LearningRateSchedule
    from torchbase.run_directory.config import SessionConfig


class SessionParts(UserMethods):
    """Data, network, optimizer and metrics of a session, made of what the user's methods give.

    They are built when they are first needed, so that a subclass may set attributes of its own after
    ``super().__init__(config)``.
    """

    config_session: "SessionConfig"
    config_metrics: dict[str, list[str]]
    config_network: dict[str, Any]
    device: torch.device
    _randomness: Randomness
    _runs: Runs

    def init_optimizer(self) -> torch.optim.Optimizer:
        """Gives the optimizer: Adam, in its fused form where the device has it."""
        return building.adam(self.network, self.device, self.config_session)

    def init_scheduler(self) -> "LRScheduler | LearningRateSchedule | None":
        """Gives the schedule of the learning rate, if there is to be one.

        Returns:
            A scheduler of torch for `optimizer`, which is then stepped at the end of each epoch; or a
            `LearningRateSchedule`, which says when it is stepped.
        """
        return None

    def init_dataloaders(self) -> tuple[Any, Mapping[str, Any]]:
        """Gives what the phases iterate: the training loader, and a loader for each validation set by its name."""
        validation = {
            name: self._loader(dataset, f"{building.VALIDATION_PREFIX}{name}", is_training=False)
            for name, dataset in self.datasets_valid_dict.items()
        }
        return self._loader(self.dataset_train, "training", is_training=True), validation

    @cached_property
    def dataset_train(self) -> "Dataset | IterableDataset":
        """The training set."""
        return self._datasets[0]

    @cached_property
    def datasets_valid_dict(self) -> ValidationDatasetsDict:
        """The validation sets."""
        return self._datasets[1]

    @cached_property
    def network(self) -> torch.nn.Module:
        """The network, on its device."""
        with self._building("network"):
            network = building.check_network(self.init_network(), self.config_network["architecture"])
            self._runs.load_source_network(network)
            return network.to(self.device)

    @cached_property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer of the network."""
        with self._building("optimizer"):
            return building.check_optimizer(self.init_optimizer())

    @cached_property
    def dataloader_train(self) -> Any:
        """What the training phase iterates."""
        return self._dataloaders[0]

    @cached_property
    def dataloader_valid_dict(self) -> Mapping[str, Any]:
        """What each validation phase iterates, by the set's name."""
        return self._dataloaders[1]

    @cached_property
    def _datasets(self) -> "tuple[Dataset | IterableDataset, ValidationDatasetsDict]":
        with self._building("datasets"):
            return building.check_datasets(self.init_datasets())

    @cached_property
    def _dataloaders(self) -> tuple[Any, Mapping[str, Any]]:
        with self._building("dataloaders"):
            return building.check_dataloaders(self.init_dataloaders(), self.datasets_valid_dict)

    @cached_property
    def _metrics(self) -> SelectedMetrics:
        with self._building("metrics"):
            return select_metrics(self.init_metrics(), self.config_metrics)

    def _schedule(self) -> "LearningRateSchedule | None":
        with self._building("scheduler"):
            return building.check_scheduler(self.init_scheduler())

    def _loader(self, dataset: "Dataset | IterableDataset", phase: str, *, is_training: bool) -> Any:
        overridden = type(self).dataloader_collate_function is not UserMethods.dataloader_collate_function
        return phase_loader(
            dataset,
            phase,
            self._randomness,
            self.config_session,
            is_training=is_training,
            collate=self.dataloader_collate_function if overridden else None,
            device=self.device,
        )

    @contextmanager
    def _building(self, what: str) -> Iterator[None]:
        # Each part draws from streams of its own, so none depends on the order in which they are built.
        with self._cleaning_up_after_errors(), self._randomness.seeded("building", what, device=self.device):
            yield

    @abstractmethod
    def _cleaning_up_after_errors(self) -> AbstractContextManager[None]:
        """Removes the run directory where an error leaves nothing in it."""
