"""What a session is built of: the checks of what the user's methods gave, and where the run directory comes from."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from torchbase.checkpoints import newest_whole_checkpoint
from torchbase.data.validation_datasets import ValidationDatasetsDict
from torchbase.durable_files import read_json, read_tensors, remove_leftovers
from torchbase.errors import CheckpointError, ConfigError, DataError, RunDirectoryError, StepError
from torchbase.hooks.seed_capture import SEEDS_FILE
from torchbase.randomness import draw_seed
from torchbase.run_directory import NETWORK_FILE, RunDirectory

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

    from torchbase.config import SessionConfig

DEFAULT_PARENT = "runs"
VALIDATION_PREFIX = "validation-"


@dataclass(frozen=True)
class Runs:
    """Which run directory a session writes, and which run it comes from.

    Attributes:
        parent: The folder of all run directories; ``runs`` in the current folder without one.
        afresh: Whether the session makes a run directory of its own.
        source_tag: The run to go on with, or to take the network of.
        postfix: What to append to the name of a new run directory.
    """

    parent: str | Path | None
    afresh: bool
    source_tag: str | None
    postfix: str | None

    def open(self) -> RunDirectory:
        """Makes or opens the run directory, and locks it.

        Returns:
            The run directory.

        Raises:
            RunDirectoryError: If it can't be made, found or locked, or the arguments contradict each other.
        """
        parent = self.parent if self.parent is not None else DEFAULT_PARENT
        if self.afresh:
            if self.source_tag is not None:
                RunDirectory.open(parent, self.source_tag)
            directory = RunDirectory.create(parent, self.postfix)
        elif self.source_tag is None:
            raise RunDirectoryError(
                "create_run_dir_afresh=False goes on with an earlier run, and none was named. To fix, give "
                "source_run_dir_tag, the name of its folder."
            )
        elif self.postfix is not None:
            raise RunDirectoryError(
                f"tag_postfix='{self.postfix}' names a new run directory, and create_run_dir_afresh=False makes none. "
                "To fix, leave out one of them."
            )
        else:
            directory = RunDirectory.open(parent, self.source_tag)
        directory.lock()
        remove_leftovers(directory.path)
        remove_leftovers(directory.states)
        return directory

    def load_source_network(self, network: torch.nn.Module) -> None:
        """Gives the network of a new run the weights of the run it begins with, if one was named.

        Args:
            network: The network, as the user's ``init_network`` gave it.

        Raises:
            CheckpointError: If the source run kept no network, or another one.
        """
        if not self.afresh or self.source_tag is None:
            return
        source = RunDirectory.open(self.parent if self.parent is not None else DEFAULT_PARENT, self.source_tag)
        best = source.path / NETWORK_FILE
        if best.exists():
            state = read_tensors(best)
        else:
            saved = newest_whole_checkpoint(source.states)
            if saved is None:
                raise CheckpointError(f"The run {source.path} has kept no network to begin with.")
            state = saved.parts["network"]
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            raise CheckpointError(
                f"The network kept in {source.path} doesn't fit {type(network).__name__}: {error}. "
                "To fix, give config['network'] the values of that run."
            ) from error


def choose_seed(given: int | None, run_directory: RunDirectory) -> int:
    """Chooses the seed of a run.

    Args:
        given: The seed of the config, if any.
        run_directory: The run directory; a run that goes on keeps its seed.

    Returns:
        The seed.

    Raises:
        ConfigError: If the config's seed isn't that of the run that goes on.
    """
    file = run_directory.path / SEEDS_FILE
    if run_directory.is_new or not file.exists():
        return given if given is not None else draw_seed()
    kept = int(read_json(file)["seed"])
    if given is not None and given != kept:
        raise ConfigError(
            f"session.seed is {given}, and the run {run_directory.path} was begun with {kept}. To fix, give that one, "
            "or none."
        )
    return kept


def adam(network: torch.nn.Module, device: torch.device, config: "SessionConfig") -> torch.optim.Optimizer:
    """Makes the default optimizer.

    Args:
        network: The network.
        device: Where it lives.
        config: Gives the learning rate and the weight decay.

    Returns:
        Adam, fused where all parameters are floating and torch has a fused kernel for the device.
    """
    parameters = [one for one in network.parameters() if one.requires_grad]
    if not parameters:
        raise StepError("The network has no parameter that requires a gradient, so there is nothing to train.")
    has_fused_kernel = device.type in ("cpu", "cuda", "mps", "xpu") and all(p.is_floating_point() for p in parameters)
    return torch.optim.Adam(
        parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=has_fused_kernel
    )


def check_datasets(given: object) -> "tuple[Dataset | IterableDataset, ValidationDatasetsDict]":
    """Checks what ``init_datasets`` returned.

    Args:
        given: What it returned.

    Returns:
        The same, typed.

    Raises:
        DataError: If it isn't a training set and a `ValidationDatasetsDict`.
    """
    from datasets import Dataset, IterableDataset

    if not isinstance(given, tuple | list) or len(given) != 2:
        came = f"{len(given)} things" if isinstance(given, tuple | list) else type(given).__name__
        raise DataError(
            "init_datasets has to return two things, the training set and a ValidationDatasetsDict, and returned "
            f"{came}."
        )
    training, validation = given
    if not isinstance(training, Dataset | IterableDataset):
        raise DataError(
            "The training set has to be a datasets.Dataset or a datasets.IterableDataset, and init_datasets gave a "
            f"{type(training).__name__}. To fix, make one, e.g. with datasets.Dataset.from_dict(...)."
        )
    if isinstance(training, Dataset) and len(training) == 0:
        raise DataError("The training set is empty. To fix, look at how init_datasets reads or splits it.")
    if not isinstance(validation, ValidationDatasetsDict):
        raise DataError(
            f"The validation sets have to be a ValidationDatasetsDict, and init_datasets gave a "
            f"{type(validation).__name__}. To fix, return "
            'ValidationDatasetsDict(datasets=(valid,), only_for_demo=(False,), names=("valid",)).'
        )
    return training, validation


def check_network(network: object, architecture: str) -> torch.nn.Module:
    """Checks what ``init_network`` returned.

    Args:
        network: What it returned.
        architecture: The class name that the config gives.

    Returns:
        The same, typed.

    Raises:
        StepError: If it isn't a module.
        ConfigError: If its class has another name.
    """
    if inspect.isclass(network) or not isinstance(network, torch.nn.Module):
        came = f"the class {network.__name__}" if inspect.isclass(network) else f"a {type(network).__name__}"
        raise StepError(f"init_network has to return an instance of torch.nn.Module, and returned {came}.")
    if type(network).__name__ != architecture:
        raise ConfigError(
            f"network.architecture is '{architecture}', and init_network returned a {type(network).__name__}. "
            "To fix, let the config name the class that is trained."
        )
    return network


def check_optimizer(optimizer: object) -> torch.optim.Optimizer:
    """Checks what ``init_optimizer`` returned.

    Args:
        optimizer: What it returned.

    Returns:
        The same, typed.

    Raises:
        StepError: If it isn't an optimizer.
    """
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise StepError(
            f"init_optimizer has to return a torch.optim.Optimizer, and returned a {type(optimizer).__name__}."
        )
    return optimizer


def check_dataloaders(given: object, validation: ValidationDatasetsDict) -> tuple[Any, Mapping[str, Any]]:
    """Checks what ``init_dataloaders`` returned.

    Args:
        given: What it returned.
        validation: The validation sets, each of which needs a loader.

    Returns:
        The same, typed.

    Raises:
        DataError: If it isn't a loader and a dictionary with a loader for each validation set.
    """
    if isinstance(given, tuple | list) and len(given) == 2 and isinstance(given[1], Mapping):
        if set(given[1]) == set(validation):
            return given[0], given[1]
        came = f"loaders for {sorted(given[1])}"
    else:
        came = type(given).__name__
    raise DataError(
        "init_dataloaders has to return the training loader and a dictionary with a loader for each of the validation "
        f"sets {sorted(validation)}, and returned {came}."
    )
