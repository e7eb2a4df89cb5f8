"""The rows of a dataset's Arrow table: where they lie, and their columns of a mini-batch."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from torchbase.data.arrow_columns import array_column, to_column

if TYPE_CHECKING:
    from datasets import Dataset

ROWS_COMPARED = 64


class TableRows:
    """Reads rows of some columns of a dataset, all of which Arrow's buffers can give.

    Columns in one piece are taken from their buffers by numpy. Others are gathered by `datasets`, a table at a time.
    """

    def __init__(self, dataset: "Dataset", columns: Sequence[str]) -> None:
        """Looks at the columns.

        Args:
            dataset: The dataset; its format doesn't matter.
            columns: The names of the columns.
        """
        self._gathered = dataset.select_columns(list(columns)).with_format("arrow")
        self._columns = list(columns)
        self._rows_in_table, is_known = _rows_in_table(dataset)
        table = dataset.data.table
        found = {name: array_column(table.column(name)) for name in columns} if is_known else {}
        self._arrays = {name: array for name, array in found.items() if array is not None}
        others = [name for name in columns if name not in self._arrays]
        self._others = self._gathered.select_columns(others) if others else None

    def read(self, rows: list[int]) -> dict[str, torch.Tensor | list[Any] | None]:
        """Reads rows.

        Args:
            rows: Positions in the dataset.

        Returns:
            By column, a tensor or a list; None where the rows at hand are ragged, empty or hold nulls.
        """
        columns: dict[str, torch.Tensor | list[Any] | None] = {}
        if self._arrays:
            positions = np.asarray(rows, dtype=np.int64)
            if self._rows_in_table is not None:
                positions = self._rows_in_table[positions]
            columns = {name: array.take(positions) for name, array in self._arrays.items()}
        if self._others is not None:
            table = self._others[rows].combine_chunks()
            columns.update({name: to_column(table.column(name)) for name in table.column_names})
        return columns


def _rows_in_table(dataset: "Dataset") -> tuple[NDArray[np.int64] | None, bool]:
    """Finds where the rows of a dataset lie in its table, and whether that is known.

    `datasets` keeps this (after select, shuffle, sort, …) in a private attribute and offers no public way to it. So
    what is found is compared with what `datasets` itself gives; where that differs, nothing is made of it.
    """
    indices = dataset._indices
    rows = None if indices is None else indices.column(0).to_numpy().astype(np.int64, copy=False)
    last = max(len(dataset) - 1, 0)
    some = np.unique(np.linspace(0, last, min(ROWS_COMPARED, len(dataset)), dtype=np.int64))
    expected = dataset.with_format("arrow")[some.tolist()]
    found = dataset.data.table.select(expected.column_names).take(some if rows is None else rows[some])
    return rows, bool(found.equals(expected))
