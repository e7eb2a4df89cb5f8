"""The rows of a dataset's Arrow table: where they lie, and their columns of a mini-batch."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from torchbase.data.arrow_columns import ArrayColumn, array_column, to_column

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
        self._dataset = dataset
        self._columns = list(columns)
        self._rows_in_table = _rows_in_table(dataset)
        table = dataset.data.table
        found = {name: array_column(table.column(name)) for name in columns}
        arrays = {name: array for name, array in found.items() if array is not None}
        self._arrays = arrays if self._gives_what_datasets_gives(arrays) else {}
        others = [name for name in columns if name not in self._arrays]
        self._others = _arrow(dataset, others) if others else None

    def __reduce__(self) -> tuple[Any, ...]:
        # A dataset in files is pickled as their names; the arrays over them would be pickled number by number.
        return TableRows, (self._dataset, self._columns)

    def read(self, rows: list[int]) -> dict[str, torch.Tensor | list[Any] | None]:
        """Reads rows.

        Args:
            rows: Positions in the dataset.

        Returns:
            By column, a tensor or a list; None where the rows at hand are ragged, empty or hold nulls.
        """
        columns = self._take(self._arrays, rows) if self._arrays else {}
        if self._others is not None:
            table = self._others[rows].combine_chunks()
            columns.update({name: to_column(table.column(name)) for name in table.column_names})
        return columns

    def _take(self, arrays: Mapping[str, ArrayColumn], rows: list[int]) -> dict[str, torch.Tensor | list[Any] | None]:
        positions = np.asarray(rows, dtype=np.int64)
        if self._rows_in_table is not None:
            positions = self._rows_in_table[positions]
        return {name: array.take(positions) for name, array in arrays.items()}

    def _gives_what_datasets_gives(self, arrays: Mapping[str, ArrayColumn]) -> bool:
        """Compares some rows; where the rows of the dataset lie is not something that `datasets` promises to tell."""
        if not arrays or len(self._dataset) == 0:
            return False
        some = np.unique(np.linspace(0, len(self._dataset) - 1, ROWS_COMPARED, dtype=np.int64)).tolist()
        expected = _arrow(self._dataset, list(arrays))[some]
        pairs = [(taken, to_column(expected.column(name))) for name, taken in self._take(arrays, some).items()]
        return any(taken is not None for taken, _ in pairs) and all(_agree(*pair) for pair in pairs)


def _arrow(dataset: "Dataset", columns: Sequence[str]) -> "Dataset":
    has_others = set(dataset.column_names) != set(columns)  # to select takes longer than all else here
    return (dataset.select_columns(list(columns)) if has_others else dataset).with_format("arrow")


def _agree(taken: torch.Tensor | list[Any] | None, given: torch.Tensor | list[Any] | None) -> bool:
    if taken is None or given is None:
        return taken is given
    return np.array_equal(np.asarray(taken), np.asarray(given), equal_nan=True)


def _rows_in_table(dataset: "Dataset") -> NDArray[np.int64] | None:
    """Finds where the rows of a dataset lie in its table, after select, shuffle, sort, …; None where they lie in order.

    `datasets` keeps this in a private attribute and offers no public way to it. So what is read with it is compared
    with what `datasets` itself gives before it is used.
    """
    indices = dataset._indices
    return None if indices is None else indices.column(0).to_numpy().view(np.int64)
