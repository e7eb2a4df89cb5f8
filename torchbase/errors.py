"""The errors that torchbase raises, so that a caller can catch one kind or all of them.

::

    TorchbaseError
    ├── ConfigError (ValueError)          the config dictionary
    ├── DataError (ValueError)            datasets, mini-batches and how they are read
    ├── StepError (ValueError)            what forward_pass and loss_function returned
    ├── MetricsError (ValueError)         the choice of metrics, before training
    ├── HookError (ValueError)            a slip in registering a hook, or in what it returned
    ├── HookCheckError (AssertionError)   what a check of `torchbase.testing` found
    ├── IntervalError (ValueError)        an interval that can't be read, or makes no sense where it stands
    ├── NonFiniteError (ArithmeticError)
    └── RunDirectoryError (OSError)       what is kept of a run
        ├── RunDirectoryLockedError       another process writes it
        └── CheckpointError               no checkpoint to load, or a damaged one

Their messages say what is wrong, where, what came, what was expected and how to mend it.
"""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "HookCheckError",
    "HookError",
    "IntervalError",
    "MetricsError",
    "NonFiniteError",
    "RunDirectoryError",
    "RunDirectoryLockedError",
    "StepError",
    "TorchbaseError",
]


class TorchbaseError(Exception):
    """The base of every error that torchbase raises itself."""


class ConfigError(TorchbaseError, ValueError):
    """The config dictionary is wrong, or differs from the run that it is to continue."""


class DataError(TorchbaseError, ValueError):
    """A dataset, a split or a mini-batch is not what it has to be."""


class StepError(TorchbaseError, ValueError):
    """``forward_pass`` or ``loss_function`` returned what one iteration can't use."""


class MetricsError(TorchbaseError, ValueError):
    """The metrics that the config asks for can't be computed."""


class HookError(TorchbaseError, ValueError):
    """A hook was registered wrongly, or returned what its event can't use."""


class HookCheckError(TorchbaseError, AssertionError):
    """A hook doesn't keep what a check of `torchbase.testing` asks of it."""


class IntervalError(TorchbaseError, ValueError):
    """An interval such as ``"100it"`` can't be read, or makes no sense where it stands."""


class NonFiniteError(TorchbaseError, ArithmeticError):
    """The loss of a mini-batch, or a parameter of the network, is NaN or infinite."""


class RunDirectoryError(TorchbaseError, OSError):
    """A run directory can't be made, found, read or written."""


class RunDirectoryLockedError(RunDirectoryError):
    """Another session writes this run directory."""


class CheckpointError(RunDirectoryError):
    """There is no whole checkpoint, or one is damaged."""


def nearest_name(name: object, known: Iterable[str]) -> str | None:
    """Finds what was probably meant by a name that is unknown.

    Args:
        name: The unknown name.
        known: The names that there are.

    Returns:
        The nearest known name, or None if none is near.
    """
    nearest = get_close_matches(str(name), list(known), n=1)
    return nearest[0] if nearest else None


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Asks in a message whether the nearest known name was meant.

    Args:
        name: The unknown name.
        known: The names that there are.

    Returns:
        The question with a space before it, or "" if no name is near.
    """
    nearest = nearest_name(name, known)
    return f" Did you mean {nearest!r}?" if nearest is not None else ""
