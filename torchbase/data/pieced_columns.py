"""Reading of rows from a column in several pieces, as most tables that come from files have.

The rows of a shuffled mini-batch lie in as many pieces as there are rows. So they are read by their places in memory,
from the buffers of all pieces.
"""

import ctypes
import sys
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from torchbase.data.arrow_columns import ArrayColumn, array_column, as_tensor, has_plain_numbers, storage_of

if TYPE_CHECKING:
    import pyarrow as pa

_NOT_INSPECTED, _NO_ROWS = -(2**62), -(2**61)
_NO_PLACE = -(2**60)  # places are above it
_MOST_NUMBERS_GATHERED = 64  # of more numbers in a row, a copy of the whole row is faster than their places
_ORIGIN = 2**12  # an address that no number has, and of which all sizes of numbers are divisors


class PiecedColumn:
    """A column in several pieces without nulls. A piece is inspected when the first of its rows is read.

    Of each piece, the place of its numbers in memory is stored, and nothing else: a table of millions of rows has
    thousands of pieces. Rows of few numbers are gathered in one call of NumPy, from all memory as one array of which
    nothing else is read. Rows of many numbers are copied one after the other.
    """

    def __init__(self, column: "pa.ChunkedArray") -> None:
        """Finds the pieces. Call `any_column` instead, which checks the column first.

        Args:
            column: A column of a whole table. It is held, so that the places stay valid.
        """
        self._column = column
        ends = list(accumulate(len(chunk) for chunk in column.iterchunks()))
        self._ends = np.array(ends, dtype=np.int64)
        self._begins = np.array([0, *ends[:-1]], dtype=np.int64)
        # Where row 0 of the column would be, if all its rows were in the memory of this piece. In numbers if rows are
        # gathered, else in bytes.
        self._bases = np.full(len(ends), _NOT_INSPECTED, dtype=np.int64)
        self._shape: tuple[int, ...] | None = None  # of a row; until the first piece is inspected, it isn't known
        self._dtype, self._size = np.dtype(np.int64), 1
        self._memory: NDArray[Any] | None = None  # all of it, if rows are gathered
        self._within_row = np.zeros(1, dtype=np.int64)

    def take(self, rows: NDArray[np.int64]) -> torch.Tensor | None:
        """Reads rows.

        Args:
            rows: The positions of the rows in the column, from 0. They aren't checked: other memory would be read.

        Returns:
            A tensor as from `torchbase.data.arrow_columns.to_column`, or None if the rows are ragged or empty.
        """
        if len(rows) == 0:
            return None
        numbers = self._ends.searchsorted(rows, side="right")
        bases = self._bases[numbers]
        if bases.min() < _NO_PLACE:
            self._inspect(numbers)
            bases = self._bases[numbers]
            if bases.min() < _NO_PLACE:
                return self._take_by_piece(numbers, rows - self._begins[numbers])
        if self._memory is None:
            taken = _copy(bases + rows * self._size, self._size, self._dtype)
        else:
            count = len(self._within_row)
            places = bases + rows * count
            if count > 1:
                places = (places[:, None] + self._within_row).reshape(-1)
            taken = self._memory.take(places)
        return as_tensor(taken, [len(rows), *(self._shape or ())])

    def _inspect(self, numbers: NDArray[Any]) -> None:
        """Finds the places of those pieces that were not inspected."""
        for number in {*numbers[self._bases[numbers] == _NOT_INSPECTED].tolist()}:
            rows = self._piece(number).rows
            if rows is None or (self._shape is not None and rows.shape[1:] != self._shape):
                self._bases[number] = _NO_ROWS
                continue
            if self._shape is None:
                self._set_kind(rows)
            address = rows.__array_interface__["data"][0]
            if self._memory is not None and address % rows.itemsize:
                self._stop_gathering()
            if self._memory is None:
                self._bases[number] = address - self._begins[number] * self._size
            else:
                place = (address - _ORIGIN) // rows.itemsize
                self._bases[number] = place - self._begins[number] * len(self._within_row)

    def _piece(self, number: int) -> ArrayColumn:
        return ArrayColumn(storage_of(self._column.chunk(number)))

    def _set_kind(self, rows: NDArray[Any]) -> None:
        self._shape, self._dtype, self._size = rows.shape[1:], rows.dtype, rows[0].nbytes
        if rows[0].size <= _MOST_NUMBERS_GATHERED:
            self._memory = np.asarray(_AllMemory(rows.dtype))
            self._within_row = np.arange(rows[0].size)

    def _stop_gathering(self) -> None:
        """Stores places in bytes from here on, since a number isn't at a multiple of its size."""
        self._memory = None
        are_places = self._bases > _NO_PLACE
        self._bases[are_places] = self._bases[are_places] * self._dtype.itemsize + _ORIGIN

    def _take_by_piece(self, numbers: NDArray[Any], positions: NDArray[np.int64]) -> torch.Tensor | None:
        """Reads rows of pieces that are so long that not all of their lists were compared, or whose lists differ."""
        parts: list[torch.Tensor] = []
        order = np.argsort(numbers, kind="stable")
        for group in np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1):
            part = self._piece(int(numbers[group[0]])).take(positions[group])
            if part is None or (parts and part.shape[1:] != parts[0].shape[1:]):
                return None
            parts.append(part)
        joined = torch.cat(parts)
        taken = torch.empty_like(joined)
        taken[torch.from_numpy(order)] = joined
        return taken


def _copy(sources: NDArray[np.int64], size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Reads rows of many numbers, one after the other."""
    taken = np.empty(len(sources) * size // dtype.itemsize, dtype)
    copy = ctypes.memmove
    target = taken.__array_interface__["data"][0]  # a third of the time of taken.ctypes
    for source in sources.tolist():
        copy(target, source, size)
        target += size
    return taken


class _AllMemory:
    """What NumPy takes for an array: all numbers from an address on, also where there is no memory."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        length = (sys.maxsize - _ORIGIN) // dtype.itemsize
        self.__array_interface__ = {"shape": (length,), "typestr": dtype.str, "data": (_ORIGIN, True), "version": 3}


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
