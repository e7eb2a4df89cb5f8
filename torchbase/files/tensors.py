"""Files of tensors: only what can surely be read again is written, and nothing in them is run when they are read."""

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

_WHAT_IS_KEPT = (
    "Kept are tensors, numbers, strings, bytes and None, in dictionaries, lists, tuples and sets; turn anything else "
    "into these first (an array: torch.from_numpy, a number of numpy: number.item(), a path: str)."
)
_READABLE = frozenset((bool, float, str, type(None)))
_READABLE_DTYPES = frozenset((torch.float64, torch.float32, torch.bfloat16, torch.int64, torch.uint32, torch.uint8))


def write_tensors(path: Path, value: Any) -> None:
    """Write tensors, numbers, strings, bytes and None, in any nesting of plain containers, durably.

    Args:
        path: The file; its folder has to exist.
        value: What ``torch.save`` puts into it.

    Raises:
        RunDirectoryError: The value holds something that `read_tensors` would refuse, or the operating system refused.
    """
    write_durably(path, lambda file: save_tensors(file, value, path))


def save_tensors(file: BinaryIO, value: Any, path: Path) -> None:
    """Write what `write_tensors` does into an open file; making it durable is left to the caller.

    Args:
        file: A file open for writing.
        value: What ``torch.save`` puts into it.
        path: What to call the file in an error.

    Raises:
        RunDirectoryError: The value holds something that `read_tensors` would refuse.
    """
    try:
        torch.save(value, file)
    except (pickle.PicklingError, AttributeError, TypeError, RuntimeError) as error:
        raise RunDirectoryError(f"can't write {path}: {error}. {_WHAT_IS_KEPT}") from error
    file.flush()
    if not is_loadable(value):
        # Better refused now than found unreadable when the run is to go on. Mapped, no tensor's content is read.
        _load(Path(file.name), path, "cpu", mapped=True)


def is_loadable(value: Any, levels: int = 12) -> bool:
    """Tell whether `read_tensors` takes a value for sure; of any other it has to be tried, which takes far longer.

    Args:
        value: What is to be written.
        levels: How deep containers may stand in one another.
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
    """Read what `write_tensors` wrote, without running anything that the file may hold.

    Args:
        path: The file.
        map_location: The device that the tensors are put on.

    Raises:
        RunDirectoryError: The file can't be read, is damaged, or holds other objects.
    """
    with os_errors_explained("read", path):
        return _load(path, path, map_location, mapped=False)


def check_tensors(path: Path) -> None:
    """Check the checksums (CRC-32) that ``torch.save`` put into a file; `read_tensors` alone doesn't look at them.

    Raises:
        RunDirectoryError: The file can't be read, or a byte of its content was changed.
    """
    with os_errors_explained("read", path):
        try:
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
        except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError, zlib.error) as error:
            raise RunDirectoryError(f"{path} is damaged: {error}. Restore it from a copy.") from error
    if damaged is not None:
        raise RunDirectoryError(f"{path} is damaged: the content of {damaged} was changed. Restore it from a copy.")


def _load(file: Path, named: Path, map_location: str | torch.device, mapped: bool) -> Any:
    try:
        return torch.load(file, map_location=map_location, weights_only=True, mmap=mapped)
    except (OSError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # damaged bytes make the unpickler raise almost anything
        unsupported = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"it holds {unsupported[1]}" if unsupported else f"torch.load raised {type(error).__name__}"
        raise RunDirectoryError(
            f"{named} is damaged or holds something other than tensors and plain values: {reason}. {_WHAT_IS_KEPT}"
        ) from error
