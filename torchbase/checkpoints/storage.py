"""The format of checkpoints: one folder per checkpoint, with a manifest that has a checksum of every file.

``checkpoint-epoch-000003-iteration-0000000171/`` holds one ``<part>.pth`` per part and ``manifest.json``: the progress,
the size and SHA-256 of every file, and the SHA-256 of the manifest's own content. If the run is sharded, there is one
more file for each process, with the rows that it holds; see `torchbase.checkpoints.shards`.
"""

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchbase.checkpoints.listing import is_name, list_checkpoints, name_of
from torchbase.errors import CheckpointError, RunDirectoryError
from torchbase.files import durable

if TYPE_CHECKING:
    from torchbase.checkpoints.manifest import FileRecord, Manifest

_PART = re.compile(r"[A-Za-z0-9_-]+")
_logger = logging.getLogger("torchbase")


@dataclass(frozen=True)
class Checkpoint:
    """The content of a whole checkpoint.

    Attributes:
        path: The folder of the checkpoint.
        epoch: Number of epochs completed before it was written.
        iteration: Number of training iterations completed before it was written, counted over the whole run.
        parts: The saved values by the name of the part. Tensors are on the CPU.
    """

    path: Path
    epoch: int
    iteration: int
    parts: dict[str, Any]


def write_checkpoint(folder: Path, epoch: int, iteration: int, parts: Mapping[str, Any]) -> Path:
    """Writes a checkpoint. It appears in the folder only after all of it is on the disk.

    An existing whole checkpoint of the same progress stays; a damaged one is replaced.

    Args:
        folder: The folder of the run's checkpoints. It is created if it is missing.
        epoch: Number of completed epochs.
        iteration: Number of completed training iterations of the whole run.
        parts: Tensors and plain values by the name of their file without ``.pth``.

    Returns:
        The folder of the checkpoint.

    Raises:
        CheckpointError: If the name of a part can't name a file, or the progress is negative.
        RunDirectoryError: If a part can't be saved, or the operating system reports an error.
    """
    # Late, since listing checkpoints needs neither pydantic nor torch, which are slow to import.
    from torchbase.checkpoints.manifest import MANIFEST_FILE, Manifest

    if epoch < 0 or iteration < 0:
        raise CheckpointError(
            f"The progress of a checkpoint counts from 0, but got epoch {epoch}, iteration {iteration}."
        )
    for name in parts:
        if not _PART.fullmatch(name):
            raise CheckpointError(
                f"The part {name!r} can't name a file. To fix, use letters, digits, '_' and '-' only."
            )
    path = durable.make_folder(folder) / name_of(epoch, iteration)
    if has_whole(path):
        return path

    def fill(new_file: durable.NewFile) -> None:
        records = write_parts(new_file, parts, path)
        with new_file(MANIFEST_FILE) as file:
            file.write(Manifest(epoch=epoch, iteration=iteration, files=records).to_bytes())

    durable.write_folder_durably(path, fill)
    return path


def write_parts(new_file: durable.NewFile, parts: Mapping[str, Any], path: Path) -> "dict[str, FileRecord]":
    """Writes each part of a checkpoint into its file.

    Args:
        new_file: Opens a file by its name.
        parts: As for `write_checkpoint`.
        path: The folder of the checkpoint, for errors.

    Returns:
        The size and checksum of each file.

    Raises:
        RunDirectoryError: As `write_checkpoint`.
    """
    from torchbase.checkpoints.manifest import record_of
    from torchbase.files.tensors import save_tensors

    records = {}
    for part, value in parts.items():
        with new_file(f"{part}.pth") as file:
            save_tensors(file, value, path / f"{part}.pth")
            records[f"{part}.pth"] = record_of(file)
    return records


def has_whole(path: Path) -> bool:
    """Whether a checkpoint is there and whole. A damaged one is removed, with a warning.

    Args:
        path: The folder of the checkpoint.

    Raises:
        RunDirectoryError: If the operating system reports an error.
    """
    if not path.exists():
        return False
    try:
        check_checkpoint(path)
    except CheckpointError as error:
        _logger.warning("Replacing a damaged checkpoint: %s", error)
        durable.remove_durably(path)
        return False
    return True


def check_checkpoint(path: Path, reader: int = 0, readers: int = 1) -> None:
    """Checks that a checkpoint holds exactly the bytes that were written.

    Args:
        path: The folder of the checkpoint.
        reader: The number of this reader, of those that share out the files, from 0.
        readers: How many there are. Together they read each file once.

    Raises:
        CheckpointError: If a file is missing, unreadable, changed or not part of the checkpoint.
    """
    _checked_manifest(path, reader, readers)


def read_checkpoint(path: Path) -> Checkpoint:
    """Checks a checkpoint, then reads it without running code that its files may hold.

    Args:
        path: The folder of the checkpoint.

    Returns:
        The progress and the parts, with whole tensors, however many processes have written them.

    Raises:
        CheckpointError: If it is damaged or holds something other than tensors and plain values.
    """
    check_checkpoint(path)
    return read_checked(path)


def read_checked(path: Path) -> Checkpoint:
    """Reads a checkpoint that was checked, as `read_checkpoint` does.

    Args:
        path: The folder of the checkpoint.

    Returns:
        The progress and the parts, with whole tensors.

    Raises:
        CheckpointError: If it holds something other than tensors and plain values.
    """
    from torchbase.checkpoints.shards import read_parts

    return _read(path, read_parts)


def open_checkpoint(path: Path) -> Checkpoint:
    """Checks a checkpoint, and opens it without reading its tensors into memory.

    Args:
        path: The folder of the checkpoint. It has to stay as long as the tensors are read.

    Returns:
        The progress and the parts, with a `SavedTensor` in the place of each tensor.

    Raises:
        CheckpointError: If it is damaged or holds something other than tensors and plain values.
    """
    check_checkpoint(path)
    return open_checked(path)


def open_checked(path: Path) -> Checkpoint:
    """Opens a checkpoint that was checked, as `open_checkpoint` does.

    Args:
        path: The folder of the checkpoint.

    Returns:
        The progress and the parts, with a `SavedTensor` in the place of each tensor.

    Raises:
        CheckpointError: If it holds something other than tensors and plain values.
    """
    from torchbase.checkpoints.shards import open_parts

    return _read(path, open_parts)


def newest_whole_checkpoint(folder: Path) -> Checkpoint | None:
    """Reads the most advanced whole checkpoint. A warning names each damaged checkpoint that is skipped.

    Args:
        folder: The folder of the run's checkpoints. It may be missing.

    Returns:
        The checkpoint; None if the folder holds no checkpoint.

    Raises:
        CheckpointError: If there are checkpoints, and all of them are damaged.
    """
    return first_whole(folder, list_checkpoints(folder), read_checkpoint)


def first_whole(folder: Path, paths: Sequence[Path], read: Callable[[Path], Checkpoint]) -> Checkpoint | None:
    """Reads the first whole checkpoint of a list. A warning names each damaged checkpoint that is skipped.

    Args:
        folder: The folder of the run's checkpoints, for errors.
        paths: What `list_checkpoints` returns.
        read: Reads a checkpoint, or raises a `CheckpointError`.

    Returns:
        The checkpoint; None if the list is empty.

    Raises:
        CheckpointError: If all of them are damaged.
    """
    damaged = []
    for path in paths:
        try:
            return read(path)
        except CheckpointError as error:
            _logger.warning("Skipping the checkpoint %s: %s", path.name, error)
            damaged.append(f"- {error}")
    if damaged:
        listed = "\n".join(damaged)
        raise CheckpointError(f"No checkpoint in {folder} is whole. To fix, restore one, or start a new run:\n{listed}")
    return None


@contextmanager
def _damage_explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"The checkpoint {path} is damaged: {error}. To fix, use another checkpoint, or restore it."
        ) from error


def _read(path: Path, read: "Callable[[Path, Manifest], dict[str, Any]]") -> Checkpoint:
    from torchbase.checkpoints.manifest import read_manifest

    with _damage_explained(path):
        manifest = read_manifest(path)
        return Checkpoint(path, manifest.epoch, manifest.iteration, read(path, manifest))


def _checked_manifest(path: Path, reader: int = 0, readers: int = 1) -> "Manifest":
    from torchbase.checkpoints.manifest import MANIFEST_FILE, check_manifest

    with _damage_explained(path):
        manifest = check_manifest(path, reader, readers)
        if path.name != name_of(manifest.epoch, manifest.iteration) and is_name(path.name):
            raise RunDirectoryError(
                f"{MANIFEST_FILE} belongs to epoch {manifest.epoch}, iteration {manifest.iteration}"
            )
    return manifest
