"""A file that is appended to, and cut back to an earlier length when a run goes back to a checkpoint."""

import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

logger = logging.getLogger("torchbase")


def file_sizes(folder: Path, pattern: str) -> dict[str, int]:
    """Tells how long the files of a folder are.

    Args:
        folder: The folder, e.g. a run directory.
        pattern: Which files, e.g. ``log.jsonl`` or ``events.out.tfevents.*``.

    Returns:
        Their sizes in bytes by their names, as far as they were flushed.
    """
    return {path.name: path.stat().st_size for path in sorted(folder.glob(pattern))}


def truncate_files(folder: Path, pattern: str, sizes: Mapping[str, int]) -> None:
    """Takes away what was appended after a point to which the run goes back, so that no step is there twice.

    Args:
        folder: The folder.
        pattern: Which files.
        sizes: What `file_sizes` gave at that point. A file that isn't among them is removed.

    Raises:
        OSError: If the operating system refuses.
    """
    for name, size in file_sizes(folder, pattern).items():
        if name not in sizes:
            (folder / name).unlink()
        elif size > sizes[name]:
            os.truncate(folder / name, sizes[name])
        elif size < sizes[name]:
            logger.warning("%s lost its last %d bytes, and with them some values.", folder / name, sizes[name] - size)


class AppendOnlyFile:
    """Appends to a file, which never ends with half a record for longer than it takes to notice it.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        """Opens the file, and makes it where it is missing.

        Args:
            path: The file; its folder has to exist.

        Raises:
            OSError: If the operating system refuses.
        """
        self.path = path
        self._file = open(path, "ab")  # noqa: SIM115 - closed by close()
        self._flushed_size = self.size

    @property
    def size(self) -> int:
        """The length in bytes, with what wasn't flushed yet."""
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
        """Hands everything to the operating system, for a reader to see.

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
        """Closes the file after an error, without the half of a record that may stand at its end.

        A reader takes nothing of what comes behind half a record.
        """
        with suppress(OSError):  # what could not be written still can't
            self._file.close()
        with suppress(OSError):
            os.truncate(self.path, self._flushed_size)
