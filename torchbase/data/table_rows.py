"""Reading of rows from the Arrow table of a dataset."""

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from torchbase.data.arrow_columns import ArrayColumn, to_column
from torchbase.data.pieced_columns import PiecedColumn, any_column

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

ROWS_COMPARED = 64


class TableRows:
    """A reader of those columns of a dataset that can be read directly from Arrow.

    NumPy reads columns of numbers from their buffers. `datasets` reads the other columns, as one table per mini-batch.
    """

    def __init__(self, dataset: "Dataset", columns: Sequence[str]) -> None:
        """Inspects the columns.

        Args:
            dataset: The dataset. Its format is ignored.
            columns: The names of the columns.
        """
        self._dataset = dataset
        self._columns = list(columns)
        self._rows_in_table = rows_in_table(dataset)
        table = dataset.data.table
        found = {name: any_column(table.column(name)) for name in columns}
        arrays = {name: array for name, array in found.items() if array is not None}
        in_arrow = _arrow(dataset, columns)
        some = np.unique(np.linspace(0, len(dataset) - 1, ROWS_COMPARED, dtype=np.int64)).tolist()
        expected = in_arrow[some] if arrays and len(dataset) > 0 else None
        self._arrays = arrays if expected is not None and self._match(arrays, some, expected) else {}
        others = [name for name in columns if name not in self._arrays]
        self._others = _select(in_arrow, others) if others else None

    def __reduce__(self) -> tuple[Any, ...]:
        # A dataset in files is pickled as file names, but the arrays would be pickled with all their numbers.
        return TableRows, (self._dataset, self._columns)

    def read(self, rows: list[int]) -> dict[str, torch.Tensor | list[Any] | None]:
        """Reads rows.

        Args:
            rows: Positions in the dataset.

        Returns:
            A dictionary of columns: a tensor or a list; None if the rows are ragged, empty or contain nulls.
        """
        columns = self._take(self._arrays, rows) if self._arrays else {}
        if self._others is not None:
            table = self._others[rows].combine_chunks()
            columns.update({name: to_column(table.column(name)) for name in table.column_names})
        return columns

    def _take(
        self, arrays: Mapping[str, ArrayColumn | PiecedColumn], rows: list[int]
    ) -> dict[str, torch.Tensor | list[Any] | None]:
        positions = np.asarray(rows, dtype=np.int64)
        if self._rows_in_table is not None:
            positions = self._rows_in_table[positions]
        return {name: array.take(positions) for name, array in arrays.items()}

    def _match(self, arrays: Mapping[str, ArrayColumn | PiecedColumn], rows: list[int], expected: "pa.Table") -> bool:
        """Compares some rows with `datasets`, since the positions of rows in the table are not part of its API."""
        pairs = [(values, to_column(expected.column(name))) for name, values in self._take(arrays, rows).items()]
        return any(values is not None for values, _ in pairs) and all(_are_equal(*pair) for pair in pairs)


def _arrow(dataset: "Dataset", columns: Sequence[str]) -> "Dataset":
    selected = _select(dataset, columns)
    # A shallow copy, of which only the format changes: the copy of with_format takes three times as long.
    in_arrow = copy.copy(dataset) if selected is dataset else selected
    in_arrow.set_format("arrow")
    return in_arrow


def _select(dataset: "Dataset", columns: Sequence[str]) -> "Dataset":
    has_others = set(dataset.column_names) != set(columns)  # without them, the slow selection is not needed
    return dataset.select_columns(list(columns)) if has_others else dataset


def _are_equal(first: torch.Tensor | list[Any] | None, second: torch.Tensor | list[Any] | None) -> bool:
    if first is None or second is None:
        return first is second
    return np.array_equal(np.asarray(first), np.asarray(second), equal_nan=True)


def rows_in_table(dataset: "Dataset") -> NDArray[np.int64] | None:
    """Returns the positions of the rows in the table, after select, shuffle, sort, …; None if they are in order.

    `datasets` stores the positions in a private attribute and has no public access to them. So rows that are read with
    them are compared with the rows that `datasets` returns, before they are used.
    """
    indices = dataset._indices
    return None if indices is None else indices.column(0).to_numpy().view(np.int64)
