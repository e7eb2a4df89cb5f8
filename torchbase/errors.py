"""The exceptions that torchbase raises. A caller can catch one kind, or all by `TorchbaseError`.

::

    TorchbaseError
    ├── ConfigError (ValueError)          the config dictionary
    ├── DataError (ValueError)            datasets, and how they are read
    ├── StepError (ValueError)            results of forward_pass and loss_function
    ├── MetricsError (ValueError)         the choice of metrics
    ├── HookError (ValueError)            a hook that is refused, or its return value
    ├── HookCheckError (AssertionError)   a failed check of `torchbase.testing`
    ├── IntervalError (ValueError)        an interval that isn't valid here
    ├── NonFiniteError (ArithmeticError)  a loss or parameter that is NaN or infinite
    └── RunDirectoryError (OSError)       the run directory
        ├── RunDirectoryLockedError       another process is writing to it
        └── CheckpointError               a missing or damaged checkpoint

The messages say what is wrong, where, what was received, what was expected and how to fix it.
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
    """The base class of all exceptions of torchbase."""


class ConfigError(TorchbaseError, ValueError):
    """The config dictionary is invalid, or differs from that of the run to resume."""


class DataError(TorchbaseError, ValueError):
    """A dataset, a split or a mini-batch is invalid."""


class StepError(TorchbaseError, ValueError):
    """``forward_pass`` or ``loss_function`` returned an invalid value, or has invalid parameters."""


class MetricsError(TorchbaseError, ValueError):
    """The metrics in the config can't be computed."""


class HookError(TorchbaseError, ValueError):
    """A hook can't be registered, has invalid arguments, or returned an invalid value."""


class HookCheckError(TorchbaseError, AssertionError):
    """A hook fails a check of `torchbase.testing`."""


class IntervalError(TorchbaseError, ValueError):
    """An interval such as ``"100it"`` can't be parsed, or has a unit that isn't allowed here."""


class NonFiniteError(TorchbaseError, ArithmeticError):
    """The loss of a mini-batch, or a parameter of the network, is NaN or infinite."""


class RunDirectoryError(TorchbaseError, OSError):
    """A run directory can't be created, found, read or written."""


class RunDirectoryLockedError(RunDirectoryError):
    """Another session is writing to this run directory."""


class CheckpointError(RunDirectoryError):
    """There is no complete checkpoint, or a checkpoint is damaged."""


def nearest_name(name: object, known: Iterable[str]) -> str | None:
    """Finds the known name that is most similar to an unknown name.

    Args:
        name: The unknown name.
        known: The known names.

    Returns:
        The most similar name, or None if no name is similar.
    """
    nearest = get_close_matches(str(name), list(known), n=1)
    return nearest[0] if nearest else None


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Returns a suggestion for an error message about an unknown name.

    Args:
        name: The unknown name.
        known: The known names.

    Returns:
        A question with a space before it, such as ``" Did you mean 'loss'?"``, or "" if no name is similar.
    """
    nearest = nearest_name(name, known)
    return f" Did you mean {nearest!r}?" if nearest is not None else ""
