"""The validation datasets of a run: their names, their intervals, and which are only for demonstration."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from torchbase.data.kinds import EXPECTED, reason_against_reading
from torchbase.data.typed_dict import nearest_name_hint
from torchbase.errors import DataError, IntervalError
from torchbase.intervals import Interval

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class ValidationDatasetsDict(Mapping[str, Any]):
    """The validation datasets of a run, as a read-only mapping from name to dataset.

    A dataset that is only for demonstration is validated on and logged, but has no influence on which checkpoint is the
    best. For a run without validation, pass three empty tuples.

    Attributes:
        datasets: The datasets, each with at least one row, or streams: of `datasets`, of torch, or objects with
            ``__len__`` and ``__getitem__``. Lists are converted to tuples, as for the other attributes.
        only_for_demo: Whether each dataset is only for demonstration.
        every: How often each dataset is validated on: ``"2ep"`` is at the end of every second epoch, ``"500it"`` after
            every 500 training iterations of the run. Each dataset is also validated on at the end of the last epoch. A
            single interval applies to all datasets.
        names: The names of the datasets, which are also tags and file names. Each name is unique, starts with a letter
            or digit and consists of ASCII letters and digits, ``-``, ``_`` and ``.``.

    Raises:
        DataError: An argument is not valid. The message lists all problems.

    Example:
        >>> ValidationDatasetsDict(
        ...     datasets=(part, valid),
        ...     only_for_demo=(True, False),
        ...     names=("train", "valid"),
        ... )
    """

    datasets: Sequence[Any]
    only_for_demo: Sequence[bool]
    names: Sequence[str]
    every: Sequence[str | Interval] | str | Interval = "1ep"

    def __post_init__(self) -> None:
        """Checks the arguments and converts them to tuples."""
        if isinstance(self.every, str | Interval):
            object.__setattr__(self, "every", [self.every] * (len(self.names) if _is_sequence(self.names) else 0))
        arguments = {field.name: getattr(self, field.name) for field in fields(self)}
        problems = [problem for field, value in arguments.items() for problem in _sequence_problems(field, value)]
        # Arguments that are not sequences are reported above; their items can't be checked.
        sequences = {field: tuple(value) for field, value in arguments.items() if not _sequence_problems(field, value)}
        problems += _length_problems(sequences) if len(sequences) == len(arguments) else []
        problems += _dataset_problems(sequences.get("datasets", ()), sequences.get("names", ()))
        problems += _flag_problems(sequences.get("only_for_demo", ()))
        problems += _name_problems(sequences.get("names", ()))
        problems += _interval_problems(sequences.get("every", ()))
        if problems:
            raise DataError("The validation datasets are not valid:" + "".join(f"\n- {line}" for line in problems))
        sequences["every"] = tuple(Interval.parse(interval) for interval in sequences["every"])
        for field, value in sequences.items():
            object.__setattr__(self, field, value)

    def __getitem__(self, name: str) -> Any:
        """Returns the dataset of a name.

        Args:
            name: One of ``names``.

        Returns:
            The dataset.

        Raises:
            KeyError: There is no dataset of that name.
        """
        return self.datasets[self._index(name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def is_only_for_demo(self, name: str) -> bool:
        """Returns whether the dataset of a name is only for demonstration.

        Args:
            name: One of ``names``.

        Returns:
            Whether the dataset is only for demonstration.

        Raises:
            KeyError: There is no dataset of that name.
        """
        return self.only_for_demo[self._index(name)]

    def interval_of(self, name: str) -> Interval:
        """Returns how often the dataset of a name is validated on.

        Args:
            name: One of ``names``.

        Returns:
            The interval, in epochs or training iterations.

        Raises:
            KeyError: There is no dataset of that name.
        """
        intervals: Sequence[Interval] = self.every  # type: ignore[assignment]
        return intervals[self._index(name)]

    @property
    def voting_names(self) -> tuple[str, ...]:
        """The names of the datasets that are not only for demonstration, in order."""
        return tuple(name for name in self.names if not self.is_only_for_demo(name))

    def _index(self, name: str) -> int:
        if name not in self.names:
            raise KeyError(f"There is no validation dataset {name!r}{nearest_name_hint(name, self.names)}.")
        return self.names.index(name)


def _sequence_problems(field: str, value: object) -> list[str]:
    from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

    type_name = type(value).__name__
    if isinstance(value, DatasetDict | IterableDatasetDict):
        return [f"{field} is a {type_name}. To fix, pass splits of it, for example (splits['validation'],)."]
    if isinstance(value, Dataset | IterableDataset | str | bool):
        return [f"{field} has to be a tuple or list, but got a single {type_name}. To fix, add a comma: (item,)."]
    if not isinstance(value, Sequence):
        return [f"{field} has to be a tuple or list, but got {type_name}."]
    return []


def _length_problems(sequences: Mapping[str, tuple[Any, ...]]) -> list[str]:
    lengths = {field: len(items) for field, items in sequences.items()}
    if len(set(lengths.values())) <= 1:
        return []
    listed = ", ".join(f"{length} {field}" for field, length in lengths.items())
    return [f"Each dataset has to have a name, a flag and an interval, but there are {listed}."]


def _dataset_problems(datasets: tuple[Any, ...], names: tuple[Any, ...]) -> list[str]:
    problems = []
    for index, dataset in enumerate(datasets):
        where = f"datasets[{index}]" + (f" ({names[index]!r})" if index < len(names) else "")
        reason = reason_against_reading(dataset)
        if reason is not None:
            expected = "" if reason.startswith("has") else f"has to be {EXPECTED}, but "
            problems.append(f"{where} {expected}{reason}.")
    return problems


def _flag_problems(flags: tuple[Any, ...]) -> list[str]:
    return [
        f"only_for_demo[{index}] has to be True or False, but got {flag!r} ({type(flag).__name__})."
        for index, flag in enumerate(flags)
        if not isinstance(flag, bool)
    ]


def _interval_problems(intervals: tuple[Any, ...]) -> list[str]:
    problems = []
    for index, interval in enumerate(intervals):
        try:
            Interval.parse(interval, units=("it", "ep"))
        except IntervalError as error:
            problems.append(f"every[{index}]: {error}")
    return problems


def _is_sequence(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _name_problems(names: tuple[Any, ...]) -> list[str]:
    problems = []
    for index, name in enumerate(names):
        if not isinstance(name, str):
            problems.append(f"names[{index}] has to be a str, but got {name!r} ({type(name).__name__}).")
        elif not _NAME.fullmatch(name):
            problems.append(
                f"names[{index}] is {name!r}, but a name has to start with a letter or digit and consist of ASCII "
                f"letters and digits, '-', '_' and '.'."
            )
        elif name in names[:index]:
            problems.append(f"names[{index}] repeats {name!r} of names[{names.index(name)}]; names have to be unique.")
    return problems
