"""Conversion of Arrow columns to tensors, without a Python object for each row.

The type of a column decides whether it can be converted. Its values decide whether the rows of a mini-batch can: a
column of lists can be ragged in one mini-batch and regular in the next.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

MOST_LISTS_COMPARED = 2**15  # in a column, to check for equal lengths; takes a tenth of a millisecond


def reason_for_slow_reading(feature: Any, arrow_type: "pa.DataType") -> str | None:
    """Returns the reason why a column can't be read from Arrow's buffers.

    Args:
        feature: The feature of the column in `datasets`.
        arrow_type: The type of the column in the table.

    Returns:
        The reason, or None if the column can be read from the buffers.
    """
    import pyarrow as pa
    from datasets import Array2D, Array3D, Array4D, Array5D, ClassLabel, LargeList, List, Value

    if isinstance(arrow_type, pa.BaseExtensionType):
        arrow_type = arrow_type.storage_type
    depth = 0
    while _is_list(arrow_type):
        arrow_type, depth = arrow_type.value_type, depth + 1
        if isinstance(feature, List | LargeList):
            feature = feature.feature
    if isinstance(feature, Mapping):
        return "it holds dictionaries"
    if not isinstance(feature, Value | ClassLabel | Array2D | Array3D | Array4D | Array5D):
        return f"{type(feature).__name__} is decoded by datasets"
    if _is_number(arrow_type) or (_is_text(arrow_type) and depth == 0):
        return None
    return f"lists of {arrow_type} are objects" if depth else f"{arrow_type} has no type in torch"


def to_column(column: "pa.ChunkedArray") -> torch.Tensor | list[Any] | None:
    """Converts a column to a tensor or a list of strings.

    Args:
        column: The rows of a mini-batch, of a type for which `reason_for_slow_reading` returns None.

    Returns:
        A tensor whose first dimension is the rows, with the dtypes of the format ``torch`` of `datasets`: int64 for
        integers, float32 for floats, bool for booleans. A list for strings. None if the rows are ragged, empty or
        contain nulls; then `datasets` has to read them.
    """
    array = to_array(column)
    if _is_text(array.type):
        return None if array.null_count else array.to_pylist()
    shape = [len(array)]
    while _is_list(array.type):
        width = _common_width(array)
        if width is None:
            return None
        shape.append(width)
        array = array.flatten()
    if array.null_count or not _is_number(array.type) or 0 in shape:
        return None
    return as_tensor(array.to_numpy(zero_copy_only=False), shape)


class ArrayColumn:
    """A contiguous column without nulls. NumPy reads its rows directly from Arrow's buffers.

    In a short column, the lengths of all lists are compared once. In a long column, only the requested rows are
    inspected. So a memory-mapped table is not read completely.

    Attributes:
        rows: The numbers of all rows, of shape (rows, …); None if not all lists were compared, or their lengths differ.
    """

    def __init__(self, array: "pa.Array") -> None:
        """Finds the buffers. Call `array_column` instead, which checks the column first.

        Args:
            array: Numbers, or nested lists of numbers, without nulls.
        """
        import pyarrow as pa

        self._levels: list[int | NDArray[Any]] = []
        shape = [len(array)]
        while _is_list(array.type):
            is_short = len(array) <= MOST_LISTS_COMPARED
            width = _common_width(array) if is_short or pa.types.is_fixed_size_list(array.type) else None
            self._levels.append(array.offsets.to_numpy() if width is None else width)
            array = array.values if width is None else _values_of(array, width)
            shape.append(width or 0)
        self._numbers = array.to_numpy(zero_copy_only=True)
        self.rows: NDArray[Any] | None = None if 0 in shape else self._numbers.reshape(shape)

    def take(self, rows: NDArray[np.int64]) -> torch.Tensor | None:
        """Reads rows.

        Args:
            rows: The positions of the rows in the array.

        Returns:
            A tensor as from `to_column`, or None if the rows are ragged or empty.
        """
        if self.rows is not None and len(rows) > 0:
            return as_tensor(self.rows.take(rows, axis=0), [-1, *self.rows.shape[1:]])
        starts, count, shape = rows, 1, [len(rows)]
        for level in self._levels:
            if isinstance(level, int):
                starts, width = starts * level, level
            else:
                lists = starts if count == 1 else (starts[:, None] + np.arange(count)).reshape(-1)
                begins = level.take(lists)
                widths = level.take(lists + 1) - begins
                width = int(widths[0]) if len(widths) else 0
                if width == 0 or np.count_nonzero(widths != width):
                    return None
                starts = begins[::count].astype(np.int64, copy=False)
            count *= width
            shape.append(width)
        return None if 0 in shape else as_tensor(self._take_numbers(starts, count), shape)

    def _take_numbers(self, starts: NDArray[Any], count: int) -> NDArray[Any]:
        numbers, positions, axis = self._numbers, starts, None
        if count > 1:
            rows, shifts = np.divmod(starts, count)
            shift = int(shifts[0])
            if np.count_nonzero(shifts != shift):  # earlier ragged rows shift some of them
                positions = starts[:, None] + np.arange(count)
            else:
                whole_rows = (len(numbers) - shift) // count
                numbers = numbers[shift : shift + whole_rows * count].reshape(whole_rows, count)
                positions, axis = rows, 0
        taken: NDArray[Any] = numbers.take(positions, axis=axis)
        return taken


def array_column(column: "pa.ChunkedArray") -> ArrayColumn | None:
    """Creates an `ArrayColumn` if the column allows it.

    Args:
        column: A column of a whole table, of a type for which `reason_for_slow_reading` returns None.

    Returns:
        The column, or None if it has several chunks, contains nulls, strings, or booleans (which Arrow packs as bits).
    """
    if column.num_chunks != 1:
        return None
    array = storage_of(column.chunk(0))
    return ArrayColumn(array) if has_plain_numbers(array) else None


def has_plain_numbers(array: "pa.Array") -> bool:
    """Whether NumPy can read an array from its buffers: numbers or lists of them, without nulls, no booleans.

    Args:
        array: A chunk of a column. The numbers aren't read.
    """
    import pyarrow as pa

    leaf = storage_of(array)
    while _is_list(leaf.type):
        if leaf.null_count:
            return False
        leaf = leaf.values
    return not leaf.null_count and (pa.types.is_integer(leaf.type) or pa.types.is_floating(leaf.type))


def to_array(column: "pa.ChunkedArray") -> "pa.Array":
    """Combines the chunks of a column. A column of an extension type is converted to its storage type."""
    return storage_of(column.chunk(0) if column.num_chunks == 1 else column.combine_chunks())


def storage_of(array: "pa.Array") -> "pa.Array":
    """Returns an array of an extension type as one of its storage type, and others as they are.

    Args:
        array: The array.
    """
    import pyarrow as pa

    return array.storage if isinstance(array, pa.ExtensionArray) else array


def as_tensor(numbers: NDArray[Any], shape: list[int]) -> torch.Tensor:
    """Converts numbers to a tensor that owns its memory, with the dtype of the format ``torch`` of `datasets`."""
    if numbers.dtype == np.float64:
        converted = _as_float32(numbers)
    else:
        converted = numbers.astype(_NUMPY_TYPES[numbers.dtype.kind], copy=not numbers.flags.owndata)
    return torch.from_numpy(converted.reshape(shape))


@np.errstate(
    over="ignore", invalid="ignore"
)  # values outside of float32 become infinite without a warning, as in torch
def _as_float32(numbers: NDArray[Any]) -> NDArray[Any]:
    return numbers.astype(np.float32)


_NUMPY_TYPES = {"b": np.bool_, "i": np.int64, "u": np.int64, "f": np.float32}


def _common_width(array: "pa.Array") -> int | None:
    import pyarrow as pa

    if array.null_count:
        return None
    if pa.types.is_fixed_size_list(array.type):
        return int(array.type.list_size)
    offsets = array.offsets.to_numpy()
    widths = offsets[1:] - offsets[:-1]
    return int(widths[0]) if len(widths) and (widths == widths[0]).all() else None


def _values_of(array: "pa.Array", width: int) -> "pa.Array":
    """Returns the items of lists of one length; `flatten` takes ten times as long."""
    import pyarrow as pa

    is_fixed = pa.types.is_fixed_size_list(array.type)
    begin = array.offset * width if is_fixed else array.offsets[0].as_py()
    return array.values.slice(begin, len(array) * width)


def _is_list(arrow_type: "pa.DataType") -> bool:
    import pyarrow as pa

    types = pa.types
    return bool(types.is_list(arrow_type) or types.is_large_list(arrow_type) or types.is_fixed_size_list(arrow_type))


def _is_number(arrow_type: "pa.DataType") -> bool:
    import pyarrow as pa

    types = pa.types
    return bool(types.is_integer(arrow_type) or types.is_floating(arrow_type) or types.is_boolean(arrow_type))


def _is_text(arrow_type: "pa.DataType") -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(arrow_type) or pa.types.is_large_string(arrow_type))
