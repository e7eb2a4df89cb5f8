"""Reading of rows from a column in several pieces, as most tables that come from files have.

The rows of a shuffled mini-batch lie in as many pieces as there are rows, so each is copied by itself, from the buffer
of its piece.
"""

import ctypes
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from torchbase.data.arrow_columns import ArrayColumn, array_column, as_tensor, has_plain_numbers

if TYPE_CHECKING:
    import pyarrow as pa

_NOT_INSPECTED, _NO_ROWS = 0, -1
_MOST_NUMBERS_GATHERED = 64  # of more numbers in a row, a copy of the whole row is faster than their positions


class PiecedColumn:
    """A column in several pieces without nulls. A piece is inspected when the first of its rows is read.

    Of each piece, the address of its numbers is stored, and nothing else: a table of millions of rows has thousands.
    """

    def __init__(self, column: "pa.ChunkedArray") -> None:
        """Finds the pieces. Call `any_column` instead, which checks the column first.

        Args:
            column: A column of a whole table. It is held, so that the addresses stay valid.
        """
        self._column = column
        ends = list(accumulate(len(chunk) for chunk in column.iterchunks()))
        self._ends = np.array(ends, dtype=np.int64)
        self._begins = np.array([0, *ends[:-1]], dtype=np.int64)
        self._addresses = np.full(len(ends), _NOT_INSPECTED, dtype=np.int64)
        self._shape: tuple[int, ...] | None = None  # of a row; until the first piece is inspected, it isn't known
        self._dtype, self._size, self._is_narrow = np.dtype(np.int64), 0, False

    def take(self, rows: NDArray[np.int64]) -> torch.Tensor | None:
        """Reads rows.

        Args:
            rows: The positions of the rows in the column.

        Returns:
            A tensor as from `torchbase.data.arrow_columns.to_column`, or None if the rows are ragged or empty.
        """
        if len(rows) == 0:
            return None
        numbers = self._ends.searchsorted(rows, side="right")
        positions = rows - self._begins[numbers]
        addresses = self._addresses[numbers]
        if addresses.min() <= 0:
            addresses = self._inspected(numbers)
            if addresses.min() <= 0:
                return self._take_by_piece(numbers, positions)
        sources = addresses + positions * self._size
        taken = (
            _gather(sources, self._size, self._dtype) if self._is_narrow else _copy(sources, self._size, self._dtype)
        )
        return as_tensor(taken, [len(rows), *(self._shape or ())])

    def _inspected(self, numbers: NDArray[Any]) -> NDArray[np.int64]:
        """Returns the addresses of pieces, after those are inspected that were not."""
        for number in {*numbers[self._addresses[numbers] == _NOT_INSPECTED].tolist()}:
            piece = array_column(self._column, number)
            rows = None if piece is None else piece.rows
            if rows is not None and self._shape is None:
                self._shape, self._dtype, self._size = rows.shape[1:], rows.dtype, rows[0].nbytes
                self._is_narrow = self._size <= _MOST_NUMBERS_GATHERED * rows.itemsize
            address = _NO_ROWS
            if rows is not None and rows.shape[1:] == self._shape:
                address = rows.__array_interface__["data"][0]
                self._is_narrow &= address % rows.itemsize == 0  # else its numbers aren't at positions of an array
            self._addresses[number] = address
        addresses: NDArray[np.int64] = self._addresses[numbers]
        return addresses

    def _take_by_piece(self, numbers: NDArray[Any], positions: NDArray[np.int64]) -> torch.Tensor | None:
        """Reads rows of pieces that are so long that not all of their lists were compared, or whose lists differ."""
        parts: list[torch.Tensor] = []
        order = np.argsort(numbers, kind="stable")
        for group in np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1):
            piece = array_column(self._column, int(numbers[group[0]]))
            part = None if piece is None else piece.take(positions[group])
            if part is None or (parts and part.shape[1:] != parts[0].shape[1:]):
                return None
            parts.append(part)
        joined = torch.cat(parts)
        taken = torch.empty_like(joined)
        taken[torch.from_numpy(order)] = joined
        return taken


def _gather(sources: NDArray[np.int64], size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Reads rows of few numbers, all in one call of NumPy."""
    first, last = int(sources.min()), int(sources.max())
    itemsize = dtype.itemsize
    # An array from the first row to the last. Of what is between, nothing is read.
    span = _Span((last - first) // itemsize + size // itemsize, first, dtype)
    positions = (sources - first) // itemsize
    if size > itemsize:
        positions = (positions[:, None] + np.arange(size // itemsize)).reshape(-1)
    return np.asarray(span).take(positions)


def _copy(sources: NDArray[np.int64], size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Reads rows of many numbers, one after the other."""
    taken = np.empty(len(sources) * size // dtype.itemsize, dtype)
    copy = ctypes.memmove
    target = taken.__array_interface__["data"][0]  # a third of the time of taken.ctypes
    for source in sources.tolist():
        copy(target, source, size)
        target += size
    return taken


class _Span:
    """What NumPy takes for an array: numbers from an address on."""

    def __init__(self, length: int, address: int, dtype: np.dtype[Any]) -> None:
        self.__array_interface__ = {"shape": (length,), "typestr": dtype.str, "data": (address, True), "version": 3}


def any_column(column: "pa.ChunkedArray") -> ArrayColumn | PiecedColumn | None:
    """Returns what reads the rows of a column from its buffers, if the column allows it.

    Args:
        column: A column of a whole table, of a type for which `torchbase.data.arrow_columns.reason_for_slow_reading`
            returns None.

    Returns:
        The column, or None if it contains nulls, strings, or booleans (which Arrow packs as bits).
    """
    if column.num_chunks == 1:
        return array_column(column)
    # The types of the pieces are alike, and Arrow knows whether a piece has nulls.
    has_pieces = column.num_chunks > 1 and len(column) > 0
    is_readable = has_pieces and all(has_plain_numbers(chunk) for chunk in column.iterchunks())
    return PiecedColumn(column) if is_readable else None
