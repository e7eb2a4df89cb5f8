"""Windows and random crops of one long array, read from the array itself: also from a memory map, without a copy."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from torchbase.data.arrow_columns import as_tensor
from torchbase.data.memory_maps import portable
from torchbase.errors import DataError


class _PartsOfArray:
    """A dataset whose samples are parts of equal length of one array."""

    draws: bool

    def __init__(self, array: Any, length: int, column: str) -> None:
        self._array, self._length, self._column = _check_array(array, type(self).__name__), length, column
        _check_count(length, "length", type(self).__name__)
        if len(self._array) < length:
            raise DataError(
                f"{type(self).__name__} can't cut parts of length {length} from an array of length "
                f"{len(self._array)}. To fix, lower length, or check how the array is read."
            )
        self._parts = self._view()

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        """Reads a sample.

        Args:
            row: Its position, at least 0.

        Returns:
            The part under the name of the column, shape (length, …).
        """
        if not 0 <= row < len(self):
            raise IndexError(f"{type(self).__name__} has the samples 0 to {len(self) - 1}, but got {row}.")
        return {name: values[0] for name, values in self.read_columns([row]).items()}

    def __len__(self) -> int:
        raise NotImplementedError

    def read_columns(self, rows: list[int]) -> dict[str, torch.Tensor]:
        """Reads a mini-batch.

        Args:
            rows: The positions of the samples.

        Returns:
            The parts under the name of the column, shape (samples, length, …).
        """
        taken = np.moveaxis(self._parts[self._starts(rows)], -1, 1)
        return {self._column: as_tensor(np.ascontiguousarray(taken), list(taken.shape))}

    def _starts(self, rows: list[int]) -> NDArray[np.int64]:
        raise NotImplementedError

    def _view(self) -> NDArray[Any]:
        # Of any array, as a plain array: indexing a memory map creates a memory map for each result, which is slow.
        plain = self._array.view(np.ndarray)
        return np.lib.stride_tricks.sliding_window_view(plain, self._length, axis=0)

    def __getstate__(self) -> dict[str, Any]:
        # The content of a memory map would be pickled with it.
        return {**vars(self), "_array": portable(self._array), "_parts": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        open_array: Callable[[], NDArray[Any]] = state["_array"]
        vars(self).update({**state, "_array": open_array()})
        self._parts = self._view()


class Windows(_PartsOfArray):
    """Windows of one long array, such as tokens or a time series, as a dataset.

    Window n has the positions from n · stride on. What remains at the end isn't read. The array isn't copied, so it can
    be a memory map that is larger than memory. The dtypes are those of other columns: int64, float32 and bool.

    Example:
        >>> tokens = np.memmap("tokens.bin", dtype=np.uint16, mode="r")
        >>> dataset = Windows(tokens, 1025, stride=1024)
    """

    draws = False

    def __init__(self, array: Any, length: int, *, stride: int | None = None, column: str = "window") -> None:
        """Sets the array.

        Args:
            array: Numbers, shape (positions, …): an array, a memory map of numpy, or a tensor.
            length: The length of a window.
            stride: The distance from one window to the next. None for ``length``: windows that don't overlap.
            column: The name of the column.

        Raises:
            DataError: The array has no numbers or is shorter than a window, or ``length`` or ``stride`` isn't at least
                1.
        """
        self._stride = length if stride is None else stride
        super().__init__(array, length, column)
        _check_count(self._stride, "stride", "Windows")

    def __len__(self) -> int:
        """The number of windows."""
        return (len(self._array) - self._length) // self._stride + 1

    def _starts(self, rows: list[int]) -> NDArray[np.int64]:
        return np.array(rows, dtype=np.int64) * self._stride


class RandomCrops(_PartsOfArray):
    """Random crops of one long array, as a dataset. Each time a sample is read, it is another crop.

    The position is drawn from the global stream of torch, which a session seeds for each mini-batch, so runs repeat and
    resume exactly. The array isn't copied; see `Windows`.

    Example:
        >>> dataset = RandomCrops(np.load("series.npy", mmap_mode="r"), 512, crops=10_000)
    """

    draws = True

    def __init__(self, array: Any, length: int, *, crops: int | None = None, column: str = "window") -> None:
        """Sets the array.

        Args:
            array: Numbers, shape (positions, …): an array, a memory map of numpy, or a tensor.
            length: The length of a crop.
            crops: The number of samples, which an epoch has. None for as many as fit into the array without overlap.
            column: The name of the column.

        Raises:
            DataError: The array has no numbers or is shorter than a crop, or ``length`` or ``crops`` isn't at least 1.
        """
        super().__init__(array, length, column)
        self._crops = len(self._array) // length if crops is None else crops
        _check_count(self._crops, "crops", "RandomCrops")

    def __len__(self) -> int:
        """The number of crops in an epoch."""
        return self._crops

    def _starts(self, rows: list[int]) -> NDArray[np.int64]:
        return torch.randint(len(self._parts), (len(rows),), device="cpu").numpy()


def _check_array(array: Any, where: str) -> NDArray[Any]:
    if isinstance(array, torch.Tensor):
        array = array.detach().cpu().numpy()
    if not isinstance(array, np.ndarray) or array.ndim == 0 or array.dtype.kind not in "biuf":
        found = f"{array.dtype} of shape {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise DataError(
            f"{where} needs an array of numbers of shape (positions, …), but got {found}. To fix, pass a numpy array, "
            "numpy.memmap(path, dtype, mode='r'), or numpy.load(path, mmap_mode='r')."
        )
    return array


def _check_count(count: object, name: str, where: str) -> None:
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise DataError(f"{where} expects {name}, an integer of at least 1, but got {count!r}.")
