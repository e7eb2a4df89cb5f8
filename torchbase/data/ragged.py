"""Finds the columns of a table whose lists have several lengths, by all of its rows."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from torchbase.data.arrow_columns import as_tensor

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_AT_A_TIME = 2**12


class RaggedLists(NamedTuple):
    """The lists of a column, which have several lengths.

    Attributes:
        level: Down to which level they have: 1 if only the lists of the rows have, 2 if the lists inside them have, and
            so on.
        empty: The tensor of a list without items, at that level, shape (0, …).
    """

    level: int
    empty: torch.Tensor


def ragged_lists(columns: "dict[str, pa.ChunkedArray]", rows: NDArray[np.int64] | None) -> dict[str, RaggedLists]:
    """Finds columns of lists of several lengths. Only the lengths of the lists are read, not their numbers.

    Args:
        columns: The columns of a table, by name.
        rows: The positions in the table of the rows of a dataset; None for all, in order.

    Returns:
        The lists of these columns, by name.
    """
    nested = {name: column for name, column in columns.items() if _depth_of(column.type)}
    if not nested:
        return {}
    is_read = None
    if rows is not None:
        is_read = np.zeros(len(next(iter(nested.values()))), dtype=np.bool_)
        is_read[rows] = True
    found = {name: _ragged_lists(column, is_read) for name, column in nested.items()}
    return {name: lists for name, lists in found.items() if lists is not None}


def to_lists(values: Any, lists: RaggedLists | None) -> Any:
    """Makes lists of tensors, down to the level of the lists.

    Args:
        values: A tensor, or a list with one value per sample.
        lists: The lists of the column, as from `ragged_lists`; None for a column whose values stay as they are.
    """
    return values if lists is None else _to_lists(values, lists.level, lists.empty)


def _to_lists(values: Any, level: int, empty: torch.Tensor) -> Any:
    if level == 0 or values is None:
        # Where lists of lists are empty, datasets knows no shape, and leaves a list.
        return empty.clone() if isinstance(values, list) and not values else values
    return [_to_lists(value, level - 1, empty) for value in values]


def _ragged_lists(column: "pa.ChunkedArray", is_read: NDArray[np.bool_] | None) -> RaggedLists | None:
    depth = _depth_of(column.type)
    widths: list[int | None] = [None] * depth
    deepest = 0
    for array, rows in _blocks(column, is_read):
        for level, lengths in enumerate(_lengths(array, rows), 1):
            if len(lengths) == 0:
                continue
            if widths[level - 1] is None:
                widths[level - 1] = int(lengths[0])
            if level > deepest and (lengths != widths[level - 1]).any():
                deepest = level
        if deepest == depth:
            break
    return RaggedLists(deepest, _without_items(column.type, widths[deepest:])) if deepest else None


def _without_items(arrow_type: "pa.DataType", widths: list[int | None]) -> torch.Tensor:
    arrow_type = _storage_type(arrow_type)
    while _is_list(arrow_type):
        arrow_type = _storage_type(arrow_type.value_type)
    return as_tensor(np.empty(0, arrow_type.to_pandas_dtype()), [0, *(width or 0 for width in widths)])


def _blocks(
    column: "pa.ChunkedArray", is_read: NDArray[np.bool_] | None
) -> "Iterator[tuple[pa.Array, NDArray[np.int64] | None]]":
    begin = 0
    for chunk in column.chunks:
        array = _storage(chunk)
        for first in range(0, len(array), ROWS_AT_A_TIME):
            block = array.slice(first, ROWS_AT_A_TIME)
            if is_read is None:
                yield block, None
            elif len(rows := np.flatnonzero(is_read[begin + first : begin + first + len(block)])):
                yield block, None if len(rows) == len(block) else rows
        begin += len(array)


def _lengths(array: "pa.Array", rows: NDArray[np.int64] | None) -> Iterator[NDArray[Any]]:
    """Yields the lengths of the lists of each level, without those that are None."""
    import pyarrow as pa

    while _is_list(array.type):
        if rows is not None or array.null_count:
            rows = np.arange(len(array)) if rows is None else rows
            rows = rows[array.is_valid().to_numpy(zero_copy_only=False)[rows]]
        if pa.types.is_fixed_size_list(array.type):
            begins = np.arange(len(array), dtype=np.int64) * array.type.list_size + array.offset * array.type.list_size
            ends = begins + array.type.list_size
        else:
            offsets = array.offsets.to_numpy()
            begins, ends = offsets[:-1], offsets[1:]
        if rows is not None:
            begins, ends = begins[rows], ends[rows]
        lengths = ends - begins
        yield lengths
        if not _is_list(_storage_type(array.type.value_type)):
            return
        if rows is None and len(begins):
            array = array.values.slice(int(begins[0]), int(ends[-1]) - int(begins[0]))
        else:
            array, rows = array.values, _positions(begins, lengths)
        array = _storage(array)


def _positions(begins: NDArray[Any], lengths: NDArray[Any]) -> NDArray[np.int64]:
    """Returns the positions of all items of lists, by the begins and lengths of the lists."""
    before = lengths.cumsum() - lengths
    return np.repeat(begins.astype(np.int64) - before, lengths) + np.arange(int(lengths.sum()))


def _storage(array: "pa.Array") -> "pa.Array":
    import pyarrow as pa

    return array.storage if isinstance(array, pa.ExtensionArray) else array


def _depth_of(arrow_type: "pa.DataType") -> int:
    arrow_type = _storage_type(arrow_type)
    return 1 + _depth_of(arrow_type.value_type) if _is_list(arrow_type) else 0


def _storage_type(arrow_type: "pa.DataType") -> "pa.DataType":
    import pyarrow as pa

    return arrow_type.storage_type if isinstance(arrow_type, pa.ExtensionType) else arrow_type


def _is_list(arrow_type: "pa.DataType") -> bool:
    import pyarrow as pa

    types = pa.types
    return bool(types.is_list(arrow_type) or types.is_large_list(arrow_type) or types.is_fixed_size_list(arrow_type))
