"""Append-only files, truncated to an earlier length when a run returns to a checkpoint."""

import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

logger = logging.getLogger("torchbase")


def file_sizes(folder: Path, pattern: str) -> dict[str, int]:
    """Returns the sizes of files in a folder.

    Args:
        folder: The folder, e.g. a run directory.
        pattern: A glob pattern, e.g. ``log.jsonl`` or ``events.out.tfevents.*``.

    Returns:
        The sizes in bytes by file name. Unflushed content doesn't count.
    """
    return {path.name: path.stat().st_size for path in sorted(folder.glob(pattern))}


def truncate_files(folder: Path, pattern: str, sizes: Mapping[str, int]) -> None:
    """Truncates files to the sizes they had at a checkpoint, so no step is recorded twice.

    Args:
        folder: The folder.
        pattern: A glob pattern.
        sizes: The return value of `file_sizes` at the checkpoint. Files that it doesn't list are removed.

    Raises:
        OSError: If the operating system reports an error.
    """
    for name, size in file_sizes(folder, pattern).items():
        if name not in sizes:
            (folder / name).unlink()
        elif size > sizes[name]:
            os.truncate(folder / name, sizes[name])
        elif size < sizes[name]:
            logger.warning("%s lost its last %d bytes, and with them some values.", folder / name, sizes[name] - size)


class AppendOnlyFile:
    """A file that records are appended to. After an error, `abandon` removes an incomplete record at its end.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        """Opens the file and creates it if it is missing.

        Args:
            path: The file. Its folder must exist.

        Raises:
            OSError: If the operating system reports an error.
        """
        self.path = path
        self._file = open(path, "ab")  # noqa: SIM115 - closed by close()
        self._flushed_size = self.size

    @property
    def size(self) -> int:
        """The length in bytes, including unflushed content."""
        return self._file.tell()

    def append(self, content: bytes) -> None:
        """Appends a record.

        Args:
            content: The whole record.

        Raises:
            OSError: If the disk is full or gone; see `abandon`.
        """
        self._file.write(content)

    def flush(self) -> None:
        """Passes all content to the operating system, where readers see it.

        Raises:
            OSError: If the disk is full or gone; see `abandon`.
        """
        self._file.flush()
        self._flushed_size = self.size

    def close(self) -> None:
        """Closes the file.

        Raises:
            OSError: If the disk is full or gone; see `abandon`.
        """
        self._file.close()

    def abandon(self) -> None:
        """Closes the file after an error and removes an incomplete record from its end.

        A reader ignores everything after an incomplete record.
        """
        with suppress(OSError):  # closing flushes, which fails again
            self._file.close()
        with suppress(OSError):
            os.truncate(self.path, self._flushed_size)
