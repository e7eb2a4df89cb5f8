"""What a session is built of, and the checks of what the user's methods gave."""

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch.optim.lr_scheduler import LRScheduler

from torchbase.data.validation_datasets import ValidationDatasetsDict
from torchbase.errors import ConfigError, DataError, StepError
from torchbase.hooks import LearningRateSchedule

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

    from torchbase.run_directory.config import SessionConfig

VALIDATION_PREFIX = "validation-"


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


def check_scheduler(scheduler: object) -> LearningRateSchedule | None:
    """Checks what ``init_scheduler`` returned.

    Args:
        scheduler: What it returned.

    Returns:
        The hook that steps it, if there is one.

    Raises:
        StepError: If it is neither a scheduler of torch nor a `LearningRateSchedule`.
    """
    if scheduler is None or isinstance(scheduler, LearningRateSchedule):
        return scheduler
    if not isinstance(scheduler, LRScheduler):
        raise StepError(
            "init_scheduler has to return a torch.optim.lr_scheduler.LRScheduler, a LearningRateSchedule or None, and "
            f"returned a {type(scheduler).__name__}."
        )
    return LearningRateSchedule(lambda optimizer: scheduler)


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
