"""The names under which values are logged, each with its owner, so that no value replaces another without a word."""

from collections.abc import Container
from types import CodeType

from torchbase.errors import StepError
from torchbase.metrics.selection import NAME_OF_THE_LOSS, SelectedMetrics

Owner = CodeType | str
TO_FIX = "To fix, log it under another name."


class LoggedNames:
    """The names of the values that hooks and ``forward_pass`` log."""

    def __init__(self) -> None:
        self._owners: dict[str, Owner] = {}
        self._epochs: dict[str, int] = {}  # of values that are logged between phases

    def log(self, name: str, owner: Owner, taken: Container[str], metrics: SelectedMetrics | None) -> None:
        """Records that a value is logged in an iteration.

        Args:
            name: The name of the value.
            owner: The function that logs it, or its description.
            taken: The names of the values that the iteration has.
            metrics: The chosen metrics.

        Raises:
            StepError: If the name belongs to a metric, to a value that the iteration has set, or to another hook.
        """
        before = self._owners.get(name)
        if before is None and metrics is not None and name in metrics.names:
            raise StepError(f"{_describe(name, owner)} has the name of a metric in config['metrics']. {TO_FIX}")
        if name in taken and before is not owner and (before is None or not _is_same(before, owner)):
            raise StepError(f"{_describe(name, owner)} would replace {_describe_owner(name, before)}. {TO_FIX}")
        self._owners[name] = owner

    def log_between_phases(
        self, name: str, owner: Owner, epoch: int, averages: Container[str], metrics: SelectedMetrics | None
    ) -> None:
        """Records that a value is logged between phases, for an epoch.

        Args:
            name: The name of the value.
            owner: The function that logs it, or its description.
            epoch: The epoch.
            averages: The names of the averages of an epoch of training, which have the same tags.
            metrics: The chosen metrics.

        Raises:
            StepError: If the name belongs to an average, to a metric, or to another hook.
        """
        if name in averages:
            raise StepError(
                f"{_describe(name, owner)} has the name of an average of the epoch, and both would be one curve. "
                f"{TO_FIX}"
            )
        is_taken = self._epochs.get(name) == epoch
        self.log(name, owner, (name,) if is_taken else (), metrics)
        self._epochs[name] = epoch

    def check_set(self, name: str, taken: Container[str]) -> None:
        """Checks a value that the training step sets.

        Args:
            name: The name of the value.
            taken: The names of the values that the iteration has.

        Raises:
            StepError: If a hook or ``forward_pass`` has logged a value of that name in the iteration.
        """
        if name in taken and name in self._owners:
            raise StepError(
                f"{_describe(name, self._owners[name])} would be replaced by {_describe_owner(name, None)}. {TO_FIX}"
            )


def _is_same(one: Owner, other: Owner) -> bool:
    """Whether two functions belong together: methods of one class, or a function and the functions inside it."""
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    first, second = _class_or_function(one), _class_or_function(other)
    is_within = first == second or first.startswith(f"{second}.") or second.startswith(f"{first}.")
    return one.co_filename == other.co_filename and is_within


def _class_or_function(code: CodeType) -> str:
    parent = code.co_qualname.rpartition(".")[0]
    return code.co_qualname if not parent or parent.endswith("<locals>") else parent


def _describe(name: str, owner: Owner) -> str:
    return f"The value '{name}', logged by {_name_of(owner)},"


def _describe_owner(name: str, owner: Owner | None) -> str:
    if owner is not None:
        return f"the value of the same name that {_name_of(owner)} logs"
    if name == NAME_OF_THE_LOSS:
        return "the loss, which decides on the best network"
    return "a value that loss_function or run_iteration has set, such as a part of the loss"


def _name_of(owner: Owner) -> str:
    return owner if isinstance(owner, str) else owner.co_qualname
