"""What a loader reads its mini-batches from: a table, or any dataset with a length and samples."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from torchbase.data.collating import collate_samples
from torchbase.data.columns import ColumnReader
from torchbase.data.faults import LENGTH_ERROR, describe_lengths, describe_none
from torchbase.data.reading import Collate, call_collate
from torchbase.errors import DataError, describe_returned

if TYPE_CHECKING:
    from datasets import Dataset

ROWS_SEARCHED = 10_000


@runtime_checkable
class ReadsColumns(Protocol):
    """A dataset that reads the columns of a mini-batch together, which is faster than sample by sample.

    Attributes:
        draws: Whether reading draws random numbers.
    """

    draws: bool

    def read_columns(self, rows: list[int]) -> Mapping[str, Any]:
        """Reads a mini-batch.

        Args:
            rows: The positions of the samples.

        Returns:
            The columns by name, each with one entry per sample.
        """


class Source(Protocol):
    """What a loader reads its mini-batches from."""

    @property
    def may_draw(self) -> bool:
        """Whether reading can draw random numbers."""

    def read(self, rows: list[int]) -> Any:
        """Reads a mini-batch of these rows."""

    def describe_none(self, rows: list[int]) -> list[str]:
        """Describes columns of these rows that contain None."""

    def find_faults(self, rows: list[int], message: str, *, in_reading: bool) -> list[str]:
        """Finds what in these rows can have caused an error: in reading, or with the mini-batch."""


def source_of(dataset: Any, name: str, collate: Collate | None) -> Source:
    """Returns the source of a dataset.

    Args:
        dataset: A `datasets.Dataset`, or an object with ``__len__`` and ``__getitem__``.
        name: The name of the dataset in messages.
        collate: Collates a list of samples into a mini-batch. None collates by the types of the columns.
    """
    from datasets import Dataset

    return TableSource(dataset, name, collate) if isinstance(dataset, Dataset) else SampleSource(dataset, name, collate)


class TableSource:
    """A `datasets.Dataset`. Without a collate function, its columns are read as a whole."""

    def __init__(self, dataset: "Dataset", name: str, collate: Collate | None) -> None:
        """Inspects the columns; see `source_of`."""
        self._name, self._collate = name, collate
        self._reader = ColumnReader(dataset, name)
        lacks_format = collate is not None and dataset.format["type"] is None
        self._samples = dataset.with_format("torch", device="cpu") if lacks_format else dataset
        self.may_draw = collate is not None or self._reader.may_draw
        self._reader.log_slow_columns()
        if collate is None:  # a collate function may fill what is None
            self._reader.warn_of_none()

    def read(self, rows: list[int]) -> Any:
        """Reads a mini-batch of these rows."""
        if self._collate is None:
            return self._reader.read(rows)
        return call_collate(self._collate, self._samples.__getitems__(rows))

    def describe_none(self, rows: list[int]) -> list[str]:
        """Describes columns of these rows that contain None, unless a transform or a collate function can fill them."""
        return [] if self.may_draw else describe_none(self._samples, rows, self._name)

    def find_faults(self, rows: list[int], message: str, *, in_reading: bool) -> list[str]:
        """Finds None, and lists of several lengths, which can have caused an error."""
        if (self._collate is None) if in_reading else self.may_draw:
            return []
        has_lengths = LENGTH_ERROR.search(message) is not None
        lengths = describe_lengths(self._samples, rows, self._name) if has_lengths else []
        if has_lengths and not lengths and self._reader.has_ragged_columns:  # that show only in other rows
            others = range(min(len(self._samples), ROWS_SEARCHED))
            lengths = describe_lengths(self._samples, list(dict.fromkeys((*rows, *others))), self._name)
        return describe_none(self._samples, rows, self._name) + lengths


class SampleSource:
    """Any dataset with ``__len__`` and ``__getitem__``. It is read sample by sample, unless it `ReadsColumns`.

    ``__getitems__`` reads the samples of a mini-batch together, if the dataset has it.
    """

    def __init__(self, dataset: Any, name: str, collate: Collate | None) -> None:
        """Prepares the reading; see `source_of`."""
        self._dataset, self._name, self._collate = dataset, name, collate
        self._has_columns = collate is None and isinstance(dataset, ReadsColumns)
        self.may_draw = collate is not None or not isinstance(dataset, ReadsColumns) or dataset.draws

    def read(self, rows: list[int]) -> Any:
        """Reads a mini-batch of these rows."""
        if self._has_columns:
            return self._dataset.read_columns(rows)
        samples = self.samples(rows)
        return collate_samples(samples) if self._collate is None else call_collate(self._collate, samples)

    def samples(self, rows: list[int]) -> list[Any]:
        """Reads the samples of these rows."""
        together: Callable[[list[int]], Any] | None = getattr(self._dataset, "__getitems__", None)
        if not together:
            return [self._dataset[row] for row in rows]
        samples = together(rows)
        if not isinstance(samples, list | tuple) or len(samples) != len(rows):
            found = f"{len(samples)} samples" if isinstance(samples, list | tuple) else describe_returned(samples)
            raise DataError(
                f"__getitems__ of {self._name}, {type(self._dataset).__name__}, has to return a list of "
                f"{len(rows)} samples, one for each row, but returned {found}."
            )
        return list(samples)

    def describe_none(self, rows: list[int]) -> list[str]:
        """Returns nothing: what ``__getitem__`` returns has no columns to inspect."""
        return []

    def find_faults(self, rows: list[int], message: str, *, in_reading: bool) -> list[str]:
        """Returns nothing, as `describe_none`."""
        return []
