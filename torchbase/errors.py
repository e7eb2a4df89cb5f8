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
    ├── ProcessError (RuntimeError)       the processes of one training
    │   ├── ProcessesDifferError          their code, config or data differ
    │   └── ProcessLostError              another process has ended, or doesn't answer
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
    "ProcessError",
    "ProcessLostError",
    "ProcessesDifferError",
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


class ProcessError(TorchbaseError, RuntimeError):
    """The processes of a training can't be joined, or are at different places of the program."""


class ProcessLostError(ProcessError):
    """Another process of the training has ended, or doesn't answer. The first error was most likely there."""


class ProcessesDifferError(ProcessError):
    """The processes of a training have different code, configs or data."""


class RunDirectoryError(TorchbaseError, OSError):
    """A run directory can't be created, found, read or written."""


class RunDirectoryLockedError(RunDirectoryError):
    """Another session is writing to this run directory."""


class CheckpointError(RunDirectoryError):
    """There is no complete checkpoint, or a checkpoint is damaged."""


def describe_returned(value: object) -> str:
    """Describes a return value by its type for an error message, and None by what it often comes from.

    Args:
        value: What a method of the user returned.
    """
    if value is None:
        return "None, as a method without a return statement does"
    name = type(value).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"


def list_first(items: Iterable[object], most: int = 5) -> str:
    """Lists the first items for a message, with an ellipsis if there are more.

    Args:
        items: The items.
        most: How many are listed.
    """
    texts = [str(item) for item in items]
    return ", ".join(texts[:most]) + ", …" * (len(texts) > most)


def nearest_name(name: object, known: Iterable[str], similarity: float = 0.6) -> str | None:
    """Finds the known name that is most similar to an unknown name.

    Args:
        name: The unknown name.
        known: The known names.
        similarity: How similar it has to be, from 0 to 1, as `difflib.get_close_matches` measures it.

    Returns:
        The most similar name, or None if no name is similar.
    """
    nearest = get_close_matches(str(name), list(known), n=1, cutoff=similarity)
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


def nearest_or_all(name: str, known: Iterable[str]) -> str:
    """Returns a hint for a message: the known name that is nearest to an unknown one, or all known names.

    Args:
        name: The unknown name.
        known: The known names.
    """
    return did_you_mean(name, known) or f" Available: {', '.join(known) or 'none'}."
