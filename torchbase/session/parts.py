"""The parts of a session, each built when it is first needed."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from torchbase.data.own_order import OrderFunction
from torchbase.data.parts import PartsToRead
from torchbase.data.phase_loader import phase_loader
from torchbase.data.validation_datasets import ValidationDatasetsDict
from torchbase.distributed.processes import Processes
from torchbase.engine.held_network import HeldNetwork
from torchbase.engine.loop import Engine
from torchbase.engine.loss_weights import LossWeights
from torchbase.engine.named_optimizers import NamedOptimizers
from torchbase.engine.phase import Phase
from torchbase.engine.turns import Turns
from torchbase.hooks import BestValidation, MixedPrecision
from torchbase.metrics.selection import SelectedMetrics, select_metrics
from torchbase.randomness.run_randomness import Randomness
from torchbase.randomness.thread_turns import one_thread_at_a_time
from torchbase.run_directory.directory import RunDirectory
from torchbase.run_directory.names import VALIDATION_PREFIX
from torchbase.session import building, optimizers, schedules
from torchbase.session.constructor import set_by_constructor
from torchbase.session.first_weights import FirstWeights
from torchbase.session.ingredients import check_ingredients, check_is_not_within, without_ingredients
from torchbase.session.lazy_modules import is_lazily_built
from torchbase.session.length import warn_of_unused_iterations_per_epoch
from torchbase.session.user_methods import UserMethods

if TYPE_CHECKING:
    from torchbase.hooks import LearningRateSchedule
    from torchbase.run_directory.session_config import SessionConfig
    from torchbase.sharding.network import ShardedNetwork


class SessionParts(UserMethods):
    """Data, network, optimizer and metrics of a session, built by the user's methods.

    They are built when they are first needed, so a subclass may set its own attributes after
    ``super().__init__(config)``.
    """

    _running_methods: tuple[str, ...] = ()  # from the outermost to the innermost

    config_session: "SessionConfig" = set_by_constructor()
    config_metrics: dict[str, list[str]] = set_by_constructor()
    config_network: dict[str, Any] = set_by_constructor()
    device: torch.device = set_by_constructor()
    engine: Engine = set_by_constructor()
    processes: Processes = set_by_constructor()
    _randomness: Randomness = set_by_constructor()
    _first_weights: FirstWeights = set_by_constructor()
    _run_directory: RunDirectory = set_by_constructor()
    _number_of_parts: int = set_by_constructor()
    _held: HeldNetwork = set_by_constructor()
    _sharded: "ShardedNetwork | None" = set_by_constructor()

    def init_optimizer(self) -> Any:
        """Returns the optimizer: by default Adam, fused if the device supports it.

        Returns:
            An optimizer. Or a dictionary of several by name, which take turns in each training iteration, in its order.
        """
        return optimizers.adam(self.network, self.device, self.config_session)

    def optimizer_turns(self, iteration: int) -> Sequence[str]:
        """Returns which of several optimizers have a turn in a training iteration. By default, all have one.

        Args:
            iteration: The number of the training iteration in the run, from 1. The turns have to depend on it alone.

        Returns:
            Some of the names of `init_optimizer`, each once, in the order of the turns.
        """
        return tuple(self.optimizer) if isinstance(self.optimizer, NamedOptimizers) else ()

    def init_dataloaders(self) -> tuple[Any, Mapping[str, Any]]:
        """Returns the training loader, and the loaders of the validation sets by name."""
        validation = {
            name: self._loader(dataset, f"{VALIDATION_PREFIX}{name}", is_training=False)
            for name, dataset in self.datasets_valid_dict.items()
        }
        return self._loader(self.dataset_train, "training", is_training=True), validation

    @cached_property
    def ingredients(self) -> Any:
        """What several methods need."""
        if type(self).init_ingredients is UserMethods.init_ingredients:
            raise without_ingredients(type(self))
        with self._building("ingredients"):
            return check_ingredients(self.init_ingredients())

    @cached_property
    def dataset_train(self) -> Any:
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
            if self._sharded is not None:
                hook = next((one for one in self.engine.hooks.values() if isinstance(one, MixedPrecision)), None)
                dtype = None if hook is None else hook.dtype
                load, units = self._load_first_weights, self.sharded_units
                network = self._sharded.build(self._init_network, load, units, vars(self), dtype)
                if hook is not None:
                    hook.leave_to_units(network)
                return network
            network = self._init_network()
            if is_lazily_built(network):
                self._materialize(network.to(self.device))
            self._load_first_weights(network)
            return network.to(self.device)

    @cached_property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer of the network. Of several, each is ``optimizer[name]``."""
        with self._building("optimizer"):
            is_sharded, returned = self._sharded is not None, self.init_optimizer()
            return optimizers.check_optimizer(returned, self.network, is_sharded=is_sharded)

    @cached_property
    def dataloader_train(self) -> Any:
        """The loader of the training phase."""
        return self._dataloaders[0]

    @cached_property
    def _training_loader(self) -> Any:
        return self._seeded(self.dataloader_train, "training")

    @cached_property
    def dataloader_valid_dict(self) -> Mapping[str, Any]:
        """The loader of each validation phase, by the name of the validation set."""
        return self._dataloaders[1]

    @cached_property
    def _datasets(self) -> tuple[Any, ValidationDatasetsDict]:
        with self._building("datasets"):
            return building.check_datasets(self.init_datasets())

    @cached_property
    def _order(self) -> OrderFunction | None:
        with self._building("order"):
            return building.check_order(self.init_order())

    @cached_property
    def _dataloaders(self) -> tuple[Any, Mapping[str, Any]]:
        with self._building("dataloaders"):
            loaders = self.init_dataloaders()
            if type(self).init_order is not UserMethods.init_order and "_order" not in vars(self):
                building.warn_of_unused_order()
            # An iterator without an end is one epoch, of which num_iterations are trained.
            num_epochs = self.config_session.num_epochs or 1
            checked = building.check_dataloaders(loaders, self.datasets_valid_dict, num_epochs)
            warn_of_unused_iterations_per_epoch(self.config_session.iterations_per_epoch, checked[0])
            return checked

    @cached_property
    def _metrics(self) -> SelectedMetrics:
        with self._building("metrics"):
            return select_metrics(self.init_metrics(), self.config_metrics)

    def _best_validation(self) -> BestValidation:
        with self._running("init_best_validation"):
            return building.check_best_validation(self.init_best_validation())

    def _schedules(self) -> "list[LearningRateSchedule]":
        with self._building("scheduler"):
            return schedules.make_schedules(self.init_scheduler, self.optimizer)

    def _turns(self) -> Turns | None:
        is_overridden = type(self).optimizer_turns is not SessionParts.optimizer_turns
        return optimizers.turns_of(self.optimizer, self.optimizer_turns if is_overridden else None)

    def _loader(self, dataset: Any, phase: str, *, is_training: bool) -> Any:
        self._build_ingredients()  # not in each worker
        overridden = type(self).dataloader_collate_function is not UserMethods.dataloader_collate_function
        return phase_loader(
            dataset,
            phase,
            self._randomness,
            self.config_session,
            is_training=is_training,
            parts=self._parts_to_read,
            processes=self.processes,
            collate=self.dataloader_collate_function if overridden else None,
            device=self.device,
            order=self._order if is_training else None,
        )

    def _validation_phases(self) -> tuple[Phase, ...]:
        datasets = self.datasets_valid_dict
        phases = {name: f"{VALIDATION_PREFIX}{name}" for name in datasets}
        return tuple(
            Phase(
                phase,
                self._seeded(self.dataloader_valid_dict[name], phase),
                votes=name in datasets.voting_names,
                every=datasets.interval_of(name),
            )
            for name, phase in phases.items()
        )

    @property
    def _datasets_by_phase(self) -> dict[str, Any]:
        validation = {f"{VALIDATION_PREFIX}{name}": one for name, one in self.datasets_valid_dict.items()}
        return {"training": self.dataset_train, **validation}

    def _init_network(self) -> torch.nn.Module:
        return building.check_network(self.init_network(), self.config_network["architecture"])

    def _load_first_weights(self, network: torch.nn.Module) -> None:
        overridden = type(self).load_pretrained is not UserMethods.load_pretrained
        self._first_weights.load(network, self.load_pretrained if overridden else None)
        if self.processes.is_main:
            self._first_weights.save(self._run_directory)

    def _check_can_train(self) -> None:
        self._first_weights.check_can_train(type(self).load_pretrained is not UserMethods.load_pretrained)

    def _build_ingredients(self) -> None:
        if type(self).init_ingredients is not UserMethods.init_ingredients and "ingredients" not in vars(self):
            _ = self.ingredients

    @property
    def _parts_to_read(self) -> PartsToRead:
        number = self._number_of_parts
        return PartsToRead(number, self._held.own_parts(number, self.processes))

    @property
    def _size_function(self) -> Callable[[Any], int] | None:
        overridden = type(self).infer_mini_batch_size is not UserMethods.infer_mini_batch_size
        return self.infer_mini_batch_size if overridden else None

    @property
    def _loss_weights(self) -> LossWeights | None:
        overridden = type(self).infer_loss_weight is not UserMethods.infer_loss_weight
        return LossWeights(self.infer_loss_weight) if overridden else None

    def _seeded(self, loader: Any, phase: str) -> Any:
        return building.seeded_loader(loader, phase, self._randomness, self.device)

    @contextmanager
    def _building(self, part: str) -> Iterator[None]:
        # Each part draws from its own random streams, so it doesn't depend on the order in which parts are built.
        seeded = self._randomness.seeded("building", part, device=self.device)
        with self._cleaning_up_after_errors(), one_thread_at_a_time():
            if not self._running_methods and part != "ingredients":
                self._build_ingredients()
            with self._running(f"init_{part}"), seeded:
                yield

    @contextmanager
    def _running(self, method: str) -> Iterator[None]:
        check_is_not_within(method, self._running_methods)
        self._running_methods = (*self._running_methods, method)
        try:
            yield
        finally:
            self._running_methods = self._running_methods[:-1]

    @abstractmethod
    def _materialize(self, network: torch.nn.Module) -> None:
        """Gives the lazy modules of the network their parameters."""

    @abstractmethod
    def _cleaning_up_after_errors(self) -> AbstractContextManager[None]:
        """Removes the run directory after an error that leaves no results in it."""
