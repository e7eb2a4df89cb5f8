"""A column of Arrow as a tensor, without a Python object for each row.

Which columns can be read so is a matter of their type; whether the rows at hand can, of their values: a list column may
be ragged in one mini-batch and regular in the next.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

LISTS_LOOKED_AT = 2**15  # in a column, to find out whether they are of one length; takes a tenth of a millisecond


def reason_against(feature: Any, arrow_type: "pa.DataType") -> str | None:
    """Tells why a column can't be read from Arrow's buffers.

    Args:
        feature: The column's feature, of `datasets`.
        arrow_type: Its type in the table.

    Returns:
        The reason, or None if it can.
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
    """Makes a tensor, or a list of strings, of a column.

    Args:
        column: The rows of a mini-batch, of a type that `reason_against` has nothing against.

    Returns:
        A tensor whose first dimension is the rows: int64 for whole numbers, float32 for floats, bool for booleans, as
        `datasets` gives them with format ``torch``. A list for strings. None where the rows at hand need `datasets`
        itself: they are ragged, empty or hold nulls.
    """
    array = one_array(column)
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
    """A column in one piece, without nulls, whose rows are taken by numpy from the buffers where they lie.

    Whether the lists of a short column are all of one length is found out once. Of a long one nothing but the rows that
    are asked for is looked at, so a table that is mapped from a file isn't read through.
    """

    def __init__(self, array: "pa.Array") -> None:
        """Finds the buffers; use `array_column`, which says whether there are any.

        Args:
            array: Numbers, or lists of them to any depth, without nulls.
        """
        import pyarrow as pa

        self._levels: list[int | NDArray[Any]] = []
        shape = [len(array)]
        while _is_list(array.type):
            is_short = len(array) <= LISTS_LOOKED_AT
            width = _common_width(array) if is_short or pa.types.is_fixed_size_list(array.type) else None
            self._levels.append(array.offsets.to_numpy() if width is None else width)
            array = array.values if width is None else array.flatten()
            shape.append(width or 0)
        self._numbers = array.to_numpy(zero_copy_only=True)
        self._rows = None if 0 in shape else self._numbers.reshape(shape)

    def take(self, rows: NDArray[np.int64]) -> torch.Tensor | None:
        """Takes rows.

        Args:
            rows: Their positions in the array.

        Returns:
            A tensor as `to_column` gives it, or None where the rows are ragged or empty.
        """
        if self._rows is not None and len(rows) > 0:
            return as_tensor(self._rows.take(rows, axis=0), [-1, *self._rows.shape[1:]])
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
        numbers, places, axis = self._numbers, starts, None
        if count > 1:
            rows, shifts = np.divmod(starts, count)
            shift = int(shifts[0])
            if np.count_nonzero(shifts != shift):  # a ragged row before them has moved some
                places = starts[:, None] + np.arange(count)
            else:
                whole_rows = (len(numbers) - shift) // count
                numbers = numbers[shift : shift + whole_rows * count].reshape(whole_rows, count)
                places, axis = rows, 0
        taken: NDArray[Any] = numbers.take(places, axis=axis)
        return taken


def array_column(column: "pa.ChunkedArray") -> ArrayColumn | None:
    """Gives a column's rows by numpy where that can be.

    Args:
        column: A column of a whole table, of a type that `reason_against` has nothing against.

    Returns:
        The column, or None where it is in several pieces, holds nulls, or is of strings or of booleans (packed bits).
    """
    import pyarrow as pa

    if column.num_chunks != 1:
        return None
    array = one_array(column)
    leaf = array
    while _is_list(leaf.type):
        if leaf.null_count:
            return None
        leaf = leaf.values
    if leaf.null_count or not (pa.types.is_integer(leaf.type) or pa.types.is_floating(leaf.type)):
        return None
    return ArrayColumn(array)


def one_array(column: "pa.ChunkedArray") -> "pa.Array":
    """Puts the pieces of a column together; a column of an extension type becomes what it is stored as."""
    import pyarrow as pa

    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return array.storage if isinstance(array, pa.ExtensionArray) else array


def as_tensor(numbers: NDArray[Any], shape: list[int]) -> torch.Tensor:
    """Makes a tensor of numbers, of the type that `datasets` gives with format ``torch``, in memory of its own."""
    if numbers.dtype == np.float64:
        own = _as_float32(numbers)
    else:
        own = numbers.astype(_NUMPY_TYPES[numbers.dtype.kind], copy=not numbers.flags.owndata)
    return torch.from_numpy(own.reshape(shape))


@np.errstate(over="ignore", invalid="ignore")  # what float32 can't hold becomes infinite, silently as in torch
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
