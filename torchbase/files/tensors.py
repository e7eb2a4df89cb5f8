"""Files of tensors. Only values that can be read again are written, and reading a file never runs code in it."""

import pickle
import re
import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import torch

from torchbase.errors import RunDirectoryError
from torchbase.files.durable import os_errors_explained, write_durably

_SUPPORTED_TYPES = (
    "Tensors, numbers, strings, bytes and None can be saved, in dictionaries, lists, tuples and sets. To fix, "
    "convert anything else first (an array: torch.from_numpy, a NumPy number: number.item(), a path: str)."
)
_READABLE = frozenset((bool, float, str, type(None)))
_READABLE_DTYPES = frozenset((torch.float64, torch.float32, torch.bfloat16, torch.int64, torch.uint32, torch.uint8))


def write_tensors(path: Path, value: Any) -> None:
    """Writes tensors, numbers, strings, bytes and None, in any nesting of plain containers, durably.

    Args:
        path: The file. Its folder must exist.
        value: The value to save.

    Raises:
        RunDirectoryError: If `read_tensors` couldn't read the value, or the operating system reports an error.
    """
    write_durably(path, lambda file: save_tensors(file, value, path))


def save_tensors(file: BinaryIO, value: Any, path: Path) -> None:
    """Writes the same as `write_tensors` into an open file. The caller makes the file durable.

    Args:
        file: A file that is open for writing.
        value: The value to save.
        path: The name of the file in an error.

    Raises:
        RunDirectoryError: If `read_tensors` couldn't read the value.
    """
    try:
        torch.save(value, file)
    except (pickle.PicklingError, AttributeError, TypeError, RuntimeError) as error:
        raise RunDirectoryError(f"can't write {path}: {error}. {_SUPPORTED_TYPES}") from error
    file.flush()
    if not is_loadable(value):
        # An error now is better than an unreadable file when the run is resumed. Mapping reads no tensor's content.
        _load(Path(file.name), path, "cpu", mapped=True)


def is_loadable(value: Any, levels: int = 12) -> bool:
    """Whether `read_tensors` can certainly read a value. Any other value must be tried, which takes far longer.

    Args:
        value: The value to write.
        levels: The maximum depth of nested containers.
    """
    kind = type(value)
    if kind is int:
        return value in range(-(2**63), 2**63)
    if kind is torch.Tensor:
        return value.layout is torch.strided and value.dtype in _READABLE_DTYPES and not vars(value)
    if kind not in (list, tuple, dict, OrderedDict):
        return kind in _READABLE
    parts = value if kind in (list, tuple) else (*value, *value.values(), *getattr(value, "__dict__", {}).values())
    return levels > 0 and all(is_loadable(one, levels - 1) for one in parts)


def read_tensors(path: Path, map_location: str | torch.device = "cpu") -> Any:
    """Reads a file of tensors without running code that the file may hold.

    Args:
        path: The file.
        map_location: The device to load the tensors to.

    Raises:
        RunDirectoryError: If the file can't be read, is damaged, or holds other objects.
    """
    with os_errors_explained("read", path):
        return _load(path, path, map_location, mapped=False)


def map_tensors(path: Path) -> Any:
    """Maps a file of tensors into memory, so that only what is used of them is read from the disk.

    Args:
        path: The file. It has to stay as long as the tensors are used.

    Returns:
        What was written, with tensors on the CPU. A change of them doesn't change the file.

    Raises:
        RunDirectoryError: As `read_tensors`.
    """
    with os_errors_explained("read", path):
        return _load(path, path, "cpu", mapped=True)


def check_tensors(path: Path) -> None:
    """Verifies the checksums (CRC-32) that ``torch.save`` writes into a file. `read_tensors` doesn't verify them.

    Raises:
        RunDirectoryError: If the file can't be read, or its content was changed.
    """
    with os_errors_explained("read", path):
        try:
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
        except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError, zlib.error) as error:
            raise RunDirectoryError(f"{path} is damaged: {error}. To fix, restore it from a copy.") from error
    if damaged is not None:
        raise RunDirectoryError(
            f"{path} is damaged: the content of {damaged} was changed. To fix, restore it from a copy."
        )


def _load(file: Path, name: Path, map_location: str | torch.device, mapped: bool) -> Any:
    try:
        return torch.load(file, map_location=map_location, weights_only=True, mmap=mapped)
    except (OSError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # damaged bytes make the unpickler raise almost any error
        unsupported = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"it holds {unsupported[1]}" if unsupported else f"torch.load raised {type(error).__name__}"
        raise RunDirectoryError(
            f"{name} is damaged or holds something other than tensors and plain values: {reason}. {_SUPPORTED_TYPES}"
        ) from error
