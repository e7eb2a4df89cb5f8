"""Checkpoints: one folder per kept point of a run, with a manifest that proves every byte of it.

``checkpoint-epoch-000003-iteration-0000000171/`` holds one ``<part>.pth`` per part and ``manifest.json``: the progress,
the size and SHA-256 of every file, and the SHA-256 of the manifest's own content.
"""

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchbase.errors import CheckpointError, RunDirectoryError
from torchbase.files import durable
from torchbase.run_directory.names import NETWORK_FILE, STATES_FOLDER

if TYPE_CHECKING:
    from torchbase.checkpoints.manifest import Manifest

_NAME = re.compile(r"checkpoint-epoch-([0-9]{6,})-iteration-([0-9]{10,})")
_PART = re.compile(r"[A-Za-z0-9_-]+")
_logger = logging.getLogger("torchbase")


@dataclass(frozen=True)
class Checkpoint:
    """What was read from a whole checkpoint.

    Attributes:
        path: Its folder.
        epoch: How many epochs were done when it was written.
        iteration: The iterations done in the whole run when it was written.
        parts: What was kept, by the name of the part; tensors are on the CPU.
    """

    path: Path
    epoch: int
    iteration: int
    parts: dict[str, Any]


def write_checkpoint(folder: Path, epoch: int, iteration: int, parts: Mapping[str, Any]) -> Path:
    """Write a checkpoint, which appears in the folder only once all of it is on the disk.

    A whole checkpoint of the same progress that is there already is left as it is; a damaged one is replaced.

    Args:
        folder: The folder of the run's checkpoints, made where it is missing.
        epoch: How many epochs are done.
        iteration: The iterations done in the whole run, from 0.
        parts: Tensors and plain values by the name of their file without ``.pth``.

    Returns:
        The checkpoint's own folder.

    Raises:
        CheckpointError: A part's name can't be a file's, or the progress is negative.
        RunDirectoryError: A part holds something else, or the operating system refused.
    """
    # Late, since to list checkpoints takes neither pydantic nor torch, which are long to import.
    from torchbase.checkpoints.manifest import MANIFEST_FILE, Manifest, record_of
    from torchbase.files.tensors import save_tensors

    if epoch < 0 or iteration < 0:
        raise CheckpointError(f"a checkpoint's progress counts from 0: epoch {epoch}, iteration {iteration} came.")
    for name in parts:
        if not _PART.fullmatch(name):
            raise CheckpointError(f"the part {name!r} can't name a file: use letters, digits, '_' and '-' only.")
    path = durable.make_folder(folder) / _name(epoch, iteration)
    if path.exists():
        try:
            check_checkpoint(path)
        except CheckpointError as error:
            _logger.warning("a damaged checkpoint is replaced: %s", error)
            durable.remove_durably(path)
        else:
            return path

    def fill(new_file: durable.NewFile) -> None:
        records = {}
        for part, value in parts.items():
            with new_file(f"{part}.pth") as file:
                save_tensors(file, value, path / f"{part}.pth")
                records[f"{part}.pth"] = record_of(file)
        with new_file(MANIFEST_FILE) as file:
            file.write(Manifest(epoch=epoch, iteration=iteration, files=records).to_bytes())

    durable.write_folder_durably(path, fill)
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints of a folder by their names alone, the most advanced first.

    Args:
        folder: The folder of the run's checkpoints, which may be missing.

    Returns:
        Their folders, by iteration and then epoch; anything else in the folder is left out.
    """
    progress = _progress_of_all(folder)
    return sorted(progress, key=lambda path: progress[path], reverse=True)


def has_results(run_directory: Path) -> bool:
    """Say whether a run has results on disk, which can be looked at or resumed from.

    Args:
        run_directory: The run directory.

    Returns:
        Whether it has a checkpoint, by its name alone, or the best network.
    """
    return (run_directory / NETWORK_FILE).exists() or bool(list_checkpoints(run_directory / STATES_FOLDER))


def newest_progress(folder: Path) -> tuple[int, int] | None:
    """Tell how far the most advanced checkpoint is, by its name alone.

    Args:
        folder: The folder of the run's checkpoints, which may be missing.

    Returns:
        How many epochs and training iterations are done; None where there is no checkpoint.
    """
    progress = _progress_of_all(folder).values()
    if not progress:
        return None
    iterations, epochs = max(progress)
    return epochs, iterations


def check_checkpoint(path: Path) -> None:
    """Check that a checkpoint holds exactly the bytes that were written.

    Args:
        path: The checkpoint's own folder.

    Raises:
        CheckpointError: A file is missing, unreadable, changed, or not part of the checkpoint.
    """
    _checked_manifest(path)


def read_checkpoint(path: Path) -> Checkpoint:
    """Check a checkpoint, then read it, without running anything that its files may hold.

    Args:
        path: The checkpoint's own folder.

    Returns:
        Its progress and parts.

    Raises:
        CheckpointError: It is damaged, or holds something other than tensors and plain values.
    """
    from torchbase.files.tensors import read_tensors

    manifest = _checked_manifest(path)
    with _damage_explained(path):
        parts = {name.removesuffix(".pth"): read_tensors(path / name) for name in manifest.files}
    return Checkpoint(path, manifest.epoch, manifest.iteration, parts)


def newest_whole_checkpoint(folder: Path) -> Checkpoint | None:
    """Read the most advanced checkpoint that is whole; each damaged one passed over is named in a warning.

    Args:
        folder: The folder of the run's checkpoints, which may be missing.

    Returns:
        The checkpoint, or None where the folder holds none at all.

    Raises:
        CheckpointError: There are checkpoints, but each of them is damaged.
    """
    damaged = []
    for path in list_checkpoints(folder):
        try:
            return read_checkpoint(path)
        except CheckpointError as error:
            _logger.warning("the checkpoint %s is passed over: %s", path.name, error)
            damaged.append(f"- {error}")
    if damaged:
        listed = "\n".join(damaged)
        raise CheckpointError(f"no checkpoint in {folder} is whole; restore one, or start a new run:\n{listed}")
    return None


def keep_newest(folder: Path, count: int, whole: Path | None = None) -> None:
    """Remove all but the most advanced checkpoints.

    Counting begins at the first whole one, so it is never given up for a damaged one that is further on.

    Args:
        folder: The folder of the run's checkpoints.
        count: How many to keep, at least 1.
        whole: A checkpoint that is known to be whole, since it was just written: it isn't read again.

    Raises:
        CheckpointError: ``count`` is less than 1.
        RunDirectoryError: The operating system refused.
    """
    if count < 1:
        raise CheckpointError(f"can't keep the newest {count} checkpoints of {folder}: give a count of at least 1.")
    paths = list_checkpoints(folder)
    if len(paths) <= count:  # checking the first would read gigabytes for nothing
        return
    for position, path in enumerate(paths):
        try:
            if path != whole:
                check_checkpoint(path)
        except CheckpointError as error:
            _logger.warning("the checkpoint %s is not counted among those to keep: %s", path.name, error)
            continue
        for surplus in paths[position + count :]:
            durable.remove_durably(surplus)
        return


def _progress_of_all(folder: Path) -> dict[Path, tuple[int, int]]:
    with durable.os_errors_explained("list", folder):
        if not folder.exists():
            return {}
        found = {path: _NAME.fullmatch(path.name) for path in folder.iterdir() if path.is_dir()}
    return {path: (int(match[2]), int(match[1])) for path, match in found.items() if match}


@contextmanager
def _damage_explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"the checkpoint {path} is damaged: {error}. Take another, or restore it.") from error


def _checked_manifest(path: Path) -> "Manifest":
    from torchbase.checkpoints.manifest import MANIFEST_FILE, check_manifest

    with _damage_explained(path):
        manifest = check_manifest(path)
        if path.name != _name(manifest.epoch, manifest.iteration) and _NAME.fullmatch(path.name):
            raise RunDirectoryError(f"{MANIFEST_FILE} is of epoch {manifest.epoch}, iteration {manifest.iteration}")
    return manifest


def _name(epoch: int, iteration: int) -> str:
    return f"checkpoint-epoch-{epoch:06d}-iteration-{iteration:010d}"
