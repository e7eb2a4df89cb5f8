"""The files of a folder that other threads and processes may change meanwhile."""

import os
from collections.abc import Iterator
from pathlib import Path


def files_in(folder: Path) -> Iterator[Path]:
    """Lists all files of a folder and of the folders in it.

    A folder that is renamed or removed meanwhile is skipped; `pathlib.Path.rglob` raises an error then.

    Args:
        folder: The folder.

    Yields:
        The path of each file.

    Raises:
        OSError: If a folder that is there can't be read.
    """
    for parent, _, names in os.walk(folder, onerror=_raise_unless_gone):
        yield from (Path(parent, name) for name in names)


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
