"""The checks of the objects that the user's methods return."""

import inspect
import logging
from collections.abc import Iterator, Mapping
from itertools import cycle
from typing import Any

import torch

from torchbase.data.kinds import EXPECTED, is_empty, reason_against_reading
from torchbase.data.own_order import OrderFunction
from torchbase.data.seeded_loader import SeededLoader, reason_against_exactness
from torchbase.data.validation_datasets import ValidationDatasetsDict
from torchbase.engine.phase import SeekableLoader
from torchbase.errors import ConfigError, DataError, HookError, StepError, describe_returned
from torchbase.hooks import BestValidation
from torchbase.randomness.run_randomness import Randomness

_logger = logging.getLogger("torchbase")


def check_datasets(returned: object) -> tuple[Any, ValidationDatasetsDict]:
    """Checks the return value of ``init_datasets``.

    Args:
        returned: The return value.

    Returns:
        The return value, typed.

    Raises:
        DataError: If it isn't a training set and a `ValidationDatasetsDict`.
    """
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        found = f"{len(returned)} things" if isinstance(returned, tuple | list) else describe_returned(returned)
        raise DataError(
            "init_datasets has to return two things, the training set and a ValidationDatasetsDict, but returned "
            f"{found}."
        )
    training, validation = returned
    if is_empty(training):
        raise DataError("The training set is empty. To fix, check how init_datasets reads or splits it.")
    reason = reason_against_reading(training)
    if reason is not None:
        raise DataError(f"The training set has to be {EXPECTED}, but what init_datasets returned {reason}.")
    if not isinstance(validation, ValidationDatasetsDict):
        raise DataError(
            "The validation sets have to be a ValidationDatasetsDict, and init_datasets returned "
            f"{describe_returned(validation)}. To fix, return "
            'ValidationDatasetsDict(datasets=(valid,), only_for_demo=(False,), names=("valid",)).'
        )
    return training, validation


def check_order(order: object) -> OrderFunction | None:
    """Checks the return value of ``init_order``.

    Args:
        order: The return value.

    Returns:
        The return value, typed.

    Raises:
        DataError: If it isn't a function of the epoch and a generator.
    """
    to_fix = "To fix, return a function of the epoch and a generator, which returns the rows of an epoch, or None."
    if order is None:
        return None
    if inspect.isclass(order) or not callable(order):
        found = f"the class {order.__name__}" if inspect.isclass(order) else describe_returned(order)
        raise DataError(f"init_order has to return a function, but returned {found}. {to_fix}")
    try:
        inspect.signature(order).bind(1, None)
    except TypeError as error:
        raise DataError(
            f"init_order returned {getattr(order, '__qualname__', type(order).__qualname__)}, which can't be called "
            f"with an epoch and a generator: {error}. {to_fix}"
        ) from error
    except ValueError:  # a function of C has no signature to inspect
        return order
    return order


def check_best_validation(returned: object) -> BestValidation:
    """Checks the return value of ``init_best_validation``.

    Args:
        returned: The return value.

    Returns:
        The return value, typed.

    Raises:
        HookError: If it isn't a `BestValidation`.
    """
    if not isinstance(returned, BestValidation):
        found = f"the class {returned.__name__}" if inspect.isclass(returned) else describe_returned(returned)
        raise HookError(
            f"init_best_validation has to return a BestValidation, but returned {found}. To fix, return e.g. "
            'BestValidation("accuracy"), with a metric of config["metrics"]. To choose the best network by a hook of '
            "your own, let it implement is_best_epoch."
        )
    return returned


def warn_of_unused_order() -> None:
    """Warns of an ``init_order`` that wasn't called, since ``init_dataloaders`` is overridden."""
    _logger.warning(
        "init_order isn't used, since init_dataloaders is overridden and makes the training loader itself. To fix, "
        "remove one of them, or get the loaders from super().init_dataloaders()."
    )


def check_network(network: object, architecture: str) -> torch.nn.Module:
    """Checks the return value of ``init_network``.

    Args:
        network: The return value.
        architecture: The class name in the config.

    Returns:
        The return value, typed.

    Raises:
        StepError: If it isn't a module.
        ConfigError: If its class has another name.
    """
    if inspect.isclass(network) or not isinstance(network, torch.nn.Module):
        found = f"the class {network.__name__}" if inspect.isclass(network) else describe_returned(network)
        raise StepError(f"init_network has to return an instance of torch.nn.Module, but returned {found}.")
    if type(network).__name__ != architecture:
        raise ConfigError(
            f"network.architecture is '{architecture}', and init_network returned a {type(network).__name__}. "
            "To fix, set network.architecture to the name of the class that is trained."
        )
    return network


def check_dataloaders(
    returned: object, validation: ValidationDatasetsDict, num_epochs: int
) -> tuple[Any, Mapping[str, Any]]:
    """Checks the return value of ``init_dataloaders``.

    Args:
        returned: The return value.
        validation: The validation sets. Each needs a loader.
        num_epochs: Number of epochs of the run.

    Returns:
        The return value, typed.

    Raises:
        DataError: If it isn't a loader and a dictionary with a loader for each validation set. If a loader is an
            iterator that ends after the first of several epochs.
    """
    if isinstance(returned, tuple | list) and len(returned) == 2 and isinstance(returned[1], Mapping):
        if set(returned[1]) == set(validation):
            for name, loader in {"training": returned[0], **returned[1]}.items():
                _check_lasts(name, loader, num_epochs)
            return returned[0], returned[1]
        found = f"loaders for {sorted(returned[1])}"
    else:
        found = describe_returned(returned)
    raise DataError(
        "init_dataloaders has to return the training loader and a dictionary with a loader for each of the validation "
        f"sets {sorted(validation)}, but returned {found}."
    )


def _check_lasts(name: str, loader: object, num_epochs: int) -> None:
    # An iterator of a library may begin again in every epoch; generators and those of Python end once.
    ends_once = isinstance(loader, Iterator) and type(loader).__module__ in ("builtins", "itertools")
    if ends_once and num_epochs > 1 and not isinstance(loader, cycle):
        raise DataError(
            f"The loader that init_dataloaders returned for {name} is a {type(loader).__name__}, which can be iterated "
            f"only once, and the run has {num_epochs} epochs. To fix, return an iterable for every epoch: a list or a "
            "DataLoader."
        )


def seeded_loader(loader: Any, phase: str, randomness: Randomness, device: torch.device) -> Any:
    """Makes what a loader draws depend on the seed, the epoch and the position alone, and warns where it can't.

    Args:
        loader: The loader of a phase, as ``init_dataloaders`` returned it.
        phase: The name of the phase.
        randomness: The seed of the run.
        device: The device of the run.

    Returns:
        The loader itself if it is a `SeekableLoader`, which seeds what it draws; else the loader, seeded.
    """
    if isinstance(loader, SeekableLoader):
        return loader
    reason = reason_against_exactness(loader)
    if reason is not None:
        _logger.warning(
            "Two runs of one seed, or a resumed run, may read other mini-batches in %s: %s. To fix, remove this: "
            "what the loader draws from the global random streams is seeded for each epoch and mini-batch.",
            phase,
            reason,
        )
    return SeededLoader(loader, phase, randomness, device)
