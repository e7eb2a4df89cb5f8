"""Which network a run has saved, told from any other without reading it."""

import hashlib
import zipfile
from pathlib import Path
from typing import NamedTuple

from torchbase.checkpoints.listing import list_checkpoints
from torchbase.files.durable import os_errors_explained
from torchbase.run_directory.names import NETWORK_FILE, STATES_FOLDER


class SavedNetwork(NamedTuple):
    """A network that a run has saved.

    Attributes:
        file: The name of the file in the run directory that has its checksums; None without a network.
        checksum: The SHA-256 of these checksums; None if the file is damaged or missing.
    """

    file: str | None
    checksum: str | None


def find_saved_network(run_directory: Path, which: str) -> SavedNetwork:
    """Finds the best or the last network of a run.

    Args:
        run_directory: The path of the run directory.
        which: ``"best"`` or ``"last"``. Without a best network, it is the last one.

    Returns:
        The network.

    Raises:
        RunDirectoryError: If the operating system reports an error.
    """
    from torchbase.checkpoints.manifest import MANIFEST_FILE  # late, since pydantic is slow to import

    best, checkpoints = run_directory / NETWORK_FILE, list_checkpoints(run_directory / STATES_FOLDER)
    if which == "best" and best.exists():
        return SavedNetwork(NETWORK_FILE, _checksum_of_entries(best))
    if not checkpoints:
        return SavedNetwork(None, None)
    file = checkpoints[0] / MANIFEST_FILE
    with os_errors_explained("read", file):  # a damaged checkpoint may lack it, and is skipped when it is loaded
        checksum = hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else None
    return SavedNetwork(file.relative_to(run_directory).as_posix(), checksum)


def _checksum_of_entries(file: Path) -> str | None:
    with os_errors_explained("read", file):
        try:
            with zipfile.ZipFile(file) as archive:
                entries = [(entry.filename, entry.CRC) for entry in archive.infolist()]
        except zipfile.BadZipFile:  # an error when it is loaded says so
            return None
    return hashlib.sha256(repr(entries).encode()).hexdigest()
