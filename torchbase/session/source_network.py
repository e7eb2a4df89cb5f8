"""The network of another run that a run starts from: noted, since a run may be killed before its first checkpoint."""

import hashlib
import zipfile
from pathlib import Path
from typing import Any, Literal

import torch

from torchbase.checkpoints.listing import list_checkpoints
from torchbase.checkpoints.network_loading import load_network
from torchbase.checkpoints.storage import first_whole, open_checkpoint
from torchbase.errors import CheckpointError
from torchbase.files.durable import os_errors_explained, read_json, write_json
from torchbase.files.tensors import check_tensors, map_tensors
from torchbase.run_directory.directory import RunDirectory
from torchbase.run_directory.names import NETWORK_FILE, STATES_FOLDER

SOURCE_FILE = "states/source.json"


def note_source(directory: RunDirectory, source: Path, which: Literal["best", "last"]) -> None:
    """Notes in a new run directory from which network the run starts.

    Args:
        directory: The run directory.
        source: That of the source run, in the same folder.
        which: Whether it is the best or the last network of the source run.
    """
    write_json(directory.file(SOURCE_FILE), _note_of(source, which))


def load_source_again(network: torch.nn.Module, run_directory: Path) -> None:
    """Loads the noted network of the source run, if the run had one and has no checkpoint yet.

    Args:
        network: The network that the user's ``init_network`` returned.
        run_directory: The run directory of a run that is resumed.

    Raises:
        CheckpointError: If the source run is gone, or has saved another network since.
        RunDirectoryError: If the note or the saved network is damaged.
    """
    file = run_directory / SOURCE_FILE
    if not file.exists() or list_checkpoints(run_directory / STATES_FOLDER):
        return
    note = read_json(file)
    source = run_directory.parent / note["run"]
    if not source.is_dir() or _note_of(source, note["network"]) != note:
        what = "has saved another network since" if source.is_dir() else "isn't there any more"
        raise CheckpointError(
            f"The run {run_directory} began with the {note['network']} network of {source}, which {what}, and it ended "
            "before its first checkpoint. To fix, start a new run."
        )
    load_source(network, source, note["network"])


def load_source(network: torch.nn.Module, source: Path, which: Literal["best", "last"]) -> None:
    """Loads the weights of a source run.

    Args:
        network: The network that the user's ``init_network`` returned.
        source: The run directory of the source run.
        which: Whether to load its best or its last network; the last one if it has no best one.

    Raises:
        CheckpointError: If the source run has saved no network, or a different one.
        RunDirectoryError: If the saved network is damaged.
    """
    best, states = source / NETWORK_FILE, source / STATES_FOLDER
    state: Any
    if which == "best" and best.exists():
        check_tensors(best)
        state = map_tensors(best)
    else:
        saved = first_whole(states, list_checkpoints(states), open_checkpoint)
        if saved is None:
            raise CheckpointError(f"The run {source} has saved no network to start from.")
        state = saved.parts["network"]
    try:
        load_network(network, state)
    except RuntimeError as error:
        raise CheckpointError(
            f"The network saved in {source} doesn't match {type(network).__name__}: {error}. "
            "To fix, set config['network'] to the values of that run."
        ) from error


def _note_of(source: Path, which: Literal["best", "last"]) -> dict[str, str | None]:
    """Tells the saved network from any other without reading it, by the checksums that are saved with it."""
    from torchbase.checkpoints.manifest import MANIFEST_FILE  # late, since pydantic is slow to import

    best, checkpoints = source / NETWORK_FILE, list_checkpoints(source / STATES_FOLDER)
    file = checksum = None
    if which == "best" and best.exists():
        file, checksum = best, _checksum_of_entries(best)
    elif checkpoints:
        file = checkpoints[0] / MANIFEST_FILE
        with os_errors_explained("read", file):  # a damaged checkpoint may lack it, and is skipped when it is loaded
            checksum = hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else None
    name = None if file is None else file.relative_to(source).as_posix()
    return {"run": source.name, "network": which, "file": name, "checksum": checksum}


def _checksum_of_entries(file: Path) -> str | None:
    with os_errors_explained("read", file):
        try:
            with zipfile.ZipFile(file) as archive:
                entries = [(entry.filename, entry.CRC) for entry in archive.infolist()]
        except zipfile.BadZipFile:  # an error when it is loaded says so
            return None
    return hashlib.sha256(repr(entries).encode()).hexdigest()
