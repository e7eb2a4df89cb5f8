"""The networks that a run has saved: the best ones, and that of its newest checkpoint."""

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torchbase.checkpoints.listing import list_checkpoints
from torchbase.checkpoints.saved_tensors import in_memory
from torchbase.checkpoints.storage import Checkpoint, first_whole, open_checkpoint
from torchbase.errors import CheckpointError, RunDirectoryError, did_you_mean
from torchbase.files.durable import os_errors_explained
from torchbase.files.tensors import check_tensors, map_tensors
from torchbase.run_directory.best_networks import read_best_networks
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


class ReadNetwork(NamedTuple):
    """A network that was read from a run directory.

    Attributes:
        state: What its ``state_dict`` returned, with tensors on the CPU.
        epoch: The epoch of its values; None if the run directory names it elsewhere.
        iterations: The number of training iterations that were finished then; None likewise.
    """

    state: Mapping[str, Any]
    epoch: int | None = None
    iterations: int | None = None


def open_network_file(run_directory: Path, file: str = NETWORK_FILE) -> Mapping[str, Any]:
    """Checks the file of a network, and maps it into memory.

    Args:
        run_directory: The path of the run directory.
        file: The name of the file in it.

    Returns:
        What its ``state_dict`` returned.

    Raises:
        RunDirectoryError: If the file can't be read, or is damaged.
    """
    check_tensors(run_directory / file)
    return dict(map_tensors(run_directory / file))


def open_newest_checkpoint(run_directory: Path) -> Checkpoint:
    """Opens the newest whole checkpoint of a run.

    Args:
        run_directory: The path of the run directory.

    Returns:
        The checkpoint, with a `SavedTensor` in the place of each tensor.

    Raises:
        CheckpointError: If there is no whole checkpoint.
    """
    states = run_directory / STATES_FOLDER
    saved = first_whole(states, list_checkpoints(states), open_checkpoint)
    if saved is None:
        raise CheckpointError(f"The run {run_directory} has saved no network: it has no checkpoint.")
    return saved


def read_network(run_directory: Path, which: str) -> ReadNetwork:
    """Reads a network of a run.

    Args:
        run_directory: The path of the run directory.
        which: ``"best"``, ``"last"``, or the name of a file that `KeepBest` lists.

    Returns:
        The network.

    Raises:
        RunDirectoryError: If the run has saved no such network, or it is damaged.
    """
    if which == "last":
        saved = open_newest_checkpoint(run_directory)
        return ReadNetwork(in_memory(saved.parts["network"]), saved.epoch, saved.iteration)
    if which == "best":
        if not (run_directory / NETWORK_FILE).exists():
            raise RunDirectoryError(
                f"{run_directory / NETWORK_FILE} isn't there: the run has saved no best network yet. To fix, train for "
                "at least one epoch, or choose the last network."
            )
        return ReadNetwork(open_network_file(run_directory))
    best = read_best_networks(run_directory)
    listed = {} if best is None else {one.file: one for one in best.networks}
    if which not in listed:
        raise RunDirectoryError(
            f"The run {run_directory} has no network {which!r}.{did_you_mean(which, ('best', 'last', *listed))} "
            f"Available: {', '.join(('best', 'last', *listed))}."
        )
    return ReadNetwork(open_network_file(run_directory, which), listed[which].epoch, listed[which].iteration)


def _checksum_of_entries(file: Path) -> str | None:
    with os_errors_explained("read", file):
        try:
            with zipfile.ZipFile(file) as archive:
                entries = [(entry.filename, entry.CRC) for entry in archive.infolist()]
        except zipfile.BadZipFile:  # an error when it is loaded says so
            return None
    return hashlib.sha256(repr(entries).encode()).hexdigest()
