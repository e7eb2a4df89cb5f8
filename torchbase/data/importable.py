"""Finds what workers can't import: classes and functions of a notebook's cells, or of a program without a file."""

import multiprocessing
import pickle
import sys
from contextlib import suppress
from types import FunctionType
from typing import Any

from torchbase.errors import DataError, list_first


def check_workers_can_import(value: object) -> None:
    """Refuses what a worker can't import, since the worker would end without saying why.

    A forked worker has all that the main process has. One that ``spawn`` or ``forkserver`` starts imports it by name,
    and there is nothing to import it from if the program has no file.

    Args:
        value: What the worker reads from.

    Raises:
        DataError: If it refers to classes or functions that the program itself defines, and the program has no file.
    """
    method, main = multiprocessing.get_start_method(), sys.modules["__main__"]
    has_name = getattr(getattr(main, "__spec__", None), "name", None) is not None
    if method == "fork" or has_name or hasattr(main, "__file__"):
        return
    names = _names_in(value, main.__name__)
    if names:
        raise DataError(
            f"Workers are started by '{method}' here, and can't import what a cell of a notebook, or a program without "
            f"a file, defines: {list_first(names, 5)}. To fix, write it into a file (%%writefile in a notebook) and "
            "import it, or set session.dataloader_num_workers to 0."
        )


def _names_in(value: object, module: str) -> list[str]:
    found = _References(module)
    # What can't be pickled is an error of torch when it starts the workers.
    with suppress(pickle.PicklingError, TypeError, AttributeError):
        found.dump(value)
    return sorted(found.names)


class _References(pickle.Pickler):
    """Collects the names of classes and functions of one module that are pickled by their name."""

    def __init__(self, module: str) -> None:
        super().__init__(_Nowhere())
        self._module = module
        self.names: set[str] = set()

    def persistent_id(self, value: Any) -> None:
        if isinstance(value, type | FunctionType) and value.__module__ == self._module:
            self.names.add(value.__qualname__)


class _Nowhere:
    def write(self, part: bytes) -> int:
        return len(part)
