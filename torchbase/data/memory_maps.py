"""Pickles of memory maps by their files, for workers: numpy would pickle the content."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray


def portable(array: NDArray[Any]) -> Callable[[], NDArray[Any]]:
    """Returns a function that returns an array, and can be pickled without the content of a memory map.

    Args:
        array: An array, a memory map, or a part of one. A part with gaps between its numbers, such as ``array[::2]``,
            is pickled with its content.
    """
    whole = _whole_map(array)
    if whole is None or whole.filename is None or not array.flags.c_contiguous:
        return partial(np.asarray, np.array(array, subok=False) if whole is not None else array)
    distance = array.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
    return partial(np.memmap, str(whole.filename), array.dtype, "r", whole.offset + distance, array.shape)


def _whole_map(array: Any) -> Any:
    """Returns the memory map that an array is a part of; None if its memory is its own."""
    found = None
    while isinstance(array, np.ndarray):
        found = array if isinstance(array, np.memmap) else found
        array = array.base
    return found
