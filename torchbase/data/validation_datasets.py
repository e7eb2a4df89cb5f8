"""The datasets that a run validates on: their names, and which are only for demonstration."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from torchbase.data.typed_dict import nearest_name_hint
from torchbase.errors import DataError, IntervalError
from torchbase.intervals import Interval

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class ValidationDatasetsDict(Mapping[str, "Dataset | IterableDataset"]):
    """The validation datasets of a run, as a read-only mapping from name to dataset.

    A dataset that is only for demonstration is validated on and logged, but has no vote in which checkpoint is the
    best. There may be no datasets at all: give three empty tuples.

    Attributes:
        datasets: The datasets, each with at least one row, or streams (`datasets.IterableDataset`); a list is kept as
            a tuple, as in all three.
        only_for_demo: Whether each of them is only for demonstration.
        every: How often each of them is validated on: ``"2ep"`` at the end of every second epoch, ``"500it"`` within
            the epochs, behind every 500th training iteration of the run; and at the end of the last epoch. One interval
            stands for all of them.
        names: Their names. They become tags and file names, so each is different, starts with a letter or digit and
            has only letters and digits of ASCII, ``-``, ``_`` and ``.``.

    Raises:
        DataError: Any of that isn't so. The message lists all mistakes.

    Example:
        >>> ValidationDatasetsDict(datasets=(part, valid), only_for_demo=(True, False), names=("train", "valid"))
    """

    datasets: Sequence[Dataset | IterableDataset]
    only_for_demo: Sequence[bool]
    names: Sequence[str]
    every: Sequence[str | Interval] | str | Interval = "1ep"

    def __post_init__(self) -> None:
        """Check what was given, and keep it as tuples."""
        if isinstance(self.every, str | Interval):
            object.__setattr__(self, "every", [self.every] * (len(self.names) if _is_sequence(self.names) else 0))
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        mistakes = [mistake for field, value in given.items() for mistake in _sequence_mistakes(field, value)]
        # What is no sequence was reported above; its items can't be looked at.
        kept = {field: tuple(value) for field, value in given.items() if not _sequence_mistakes(field, value)}
        mistakes += _length_mistakes(kept) if len(kept) == len(given) else []
        mistakes += _dataset_mistakes(kept.get("datasets", ()), kept.get("names", ()))
        mistakes += _flag_mistakes(kept.get("only_for_demo", ()))
        mistakes += _name_mistakes(kept.get("names", ()))
        mistakes += _interval_mistakes(kept.get("every", ()))
        if mistakes:
            raise DataError("The validation datasets can't be used:" + "".join(f"\n- {line}" for line in mistakes))
        kept["every"] = tuple(Interval.parse(interval) for interval in kept["every"])
        for field, value in kept.items():
            object.__setattr__(self, field, value)

    def __getitem__(self, name: str) -> Dataset | IterableDataset:
        """The dataset of that name.

        Args:
            name: One of ``names``.

        Returns:
            The dataset.

        Raises:
            KeyError: There is none of that name.
        """
        return self.datasets[self._index(name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def is_only_for_demo(self, name: str) -> bool:
        """Whether the dataset of that name is only for demonstration.

        Args:
            name: One of ``names``.

        Returns:
            Its flag.

        Raises:
            KeyError: There is none of that name.
        """
        return self.only_for_demo[self._index(name)]

    def interval_of(self, name: str) -> Interval:
        """How often the dataset of that name is validated on.

        Args:
            name: One of ``names``.

        Returns:
            The interval, in epochs or training iterations.

        Raises:
            KeyError: There is none of that name.
        """
        intervals: Sequence[Interval] = self.every  # type: ignore[assignment]
        return intervals[self._index(name)]

    @property
    def voting_names(self) -> tuple[str, ...]:
        """The names of the datasets that aren't only for demonstration, in their order."""
        return tuple(name for name in self.names if not self.is_only_for_demo(name))

    def _index(self, name: str) -> int:
        if name not in self.names:
            raise KeyError(f"There is no validation dataset {name!r}{nearest_name_hint(name, self.names)}.")
        return self.names.index(name)


def _sequence_mistakes(field: str, value: object) -> list[str]:
    from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

    came = type(value).__name__
    if isinstance(value, DatasetDict | IterableDatasetDict):
        return [f"{field} is a {came}; pick splits of it, as (splits['validation'],)."]
    if isinstance(value, Dataset | IterableDataset | str | bool):
        return [f"{field} is a single {came}, not a tuple or list: is a comma missing, as in (item,)?"]
    if not isinstance(value, Sequence):
        return [f"{field} has to be a tuple or list, but a {came} came."]
    return []


def _length_mistakes(kept: Mapping[str, tuple[Any, ...]]) -> list[str]:
    lengths = {field: len(items) for field, items in kept.items()}
    if len(set(lengths.values())) <= 1:
        return []
    listed = ", ".join(f"{length} {field}" for field, length in lengths.items())
    return [f"There has to be one name, one flag and one interval for each dataset, but there are {listed}."]


def _dataset_mistakes(datasets: tuple[Any, ...], names: tuple[Any, ...]) -> list[str]:
    from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

    mistakes = []
    for index, dataset in enumerate(datasets):
        where = f"datasets[{index}]" + (f" ({names[index]!r})" if index < len(names) else "")
        if isinstance(dataset, DatasetDict | IterableDatasetDict):
            hint = f"pick one of its splits: {', '.join(map(repr, dataset)) or 'it has none'}"
            mistakes.append(f"{where} is a {type(dataset).__name__}, not a datasets.Dataset; {hint}.")
        elif isinstance(dataset, IterableDataset):
            continue  # whether it is empty shows when it is read
        elif not isinstance(dataset, Dataset):
            kind = type(dataset)
            mistakes.append(f"{where} has to be a datasets.Dataset, but a {kind.__module__}.{kind.__qualname__} came.")
        elif len(dataset) == 0:
            mistakes.append(f"{where} has 0 rows; give it rows or leave it out.")
    return mistakes


def _flag_mistakes(flags: tuple[Any, ...]) -> list[str]:
    return [
        f"only_for_demo[{index}] has to be True or False, but {flag!r} ({type(flag).__name__}) came."
        for index, flag in enumerate(flags)
        if not isinstance(flag, bool)
    ]


def _interval_mistakes(intervals: tuple[Any, ...]) -> list[str]:
    mistakes = []
    for index, interval in enumerate(intervals):
        try:
            Interval.parse(interval, units=("it", "ep"))
        except IntervalError as error:
            mistakes.append(f"every[{index}]: {error}")
    return mistakes


def _is_sequence(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _name_mistakes(names: tuple[Any, ...]) -> list[str]:
    mistakes = []
    for index, name in enumerate(names):
        if not isinstance(name, str):
            mistakes.append(f"names[{index}] has to be a str, but {name!r} ({type(name).__name__}) came.")
        elif not _NAME.fullmatch(name):
            mistakes.append(
                f"names[{index}] is {name!r}; a name starts with a letter or digit and has only letters and digits "
                f"of ASCII, '-', '_' and '.'."
            )
        elif name in names[:index]:
            mistakes.append(f"names[{index}] repeats {name!r} of names[{names.index(name)}]; names have to differ.")
    return mistakes
