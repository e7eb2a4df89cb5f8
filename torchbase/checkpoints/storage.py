"""The format of checkpoints: one folder per checkpoint, with a manifest that has a checksum of every file.

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
from torchbase.run_directory.names import BAD_MINI_BATCHES_FOLDER, NETWORK_FILE, PROFILE_FOLDER, STATES_FOLDER

if TYPE_CHECKING:
    from torchbase.checkpoints.manifest import Manifest

_NAME = re.compile(r"checkpoint-epoch-([0-9]{6,})-iteration-([0-9]{10,})")
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
    from torchbase.checkpoints.manifest import MANIFEST_FILE, Manifest, record_of
    from torchbase.files.tensors import save_tensors

    if epoch < 0 or iteration < 0:
        raise CheckpointError(
            f"The progress of a checkpoint counts from 0, but got epoch {epoch}, iteration {iteration}."
        )
    for name in parts:
        if not _PART.fullmatch(name):
            raise CheckpointError(
                f"The part {name!r} can't name a file. To fix, use letters, digits, '_' and '-' only."
            )
    path = durable.make_folder(folder) / _name(epoch, iteration)
    if path.exists():
        try:
            check_checkpoint(path)
        except CheckpointError as error:
            _logger.warning("Replacing a damaged checkpoint: %s", error)
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
    """Lists the checkpoints of a folder by their names alone, the most advanced first.

    Args:
        folder: The folder of the run's checkpoints. It may be missing.

    Returns:
        The folders of the checkpoints, sorted by iteration, then by epoch.
    """
    progress = _progress_of_all(folder)
    return sorted(progress, key=lambda path: progress[path], reverse=True)


def has_results(run_directory: Path) -> bool:
    """Whether a run has results on disk, to inspect or to resume from.

    Args:
        run_directory: The run directory.

    Returns:
        Whether it has a checkpoint, by its name alone, the best network, or files that a message names: a mini-batch
        whose loss was NaN, or a profile.
    """
    return (
        (run_directory / NETWORK_FILE).exists()
        or bool(list_checkpoints(run_directory / STATES_FOLDER))
        or any(_is_filled(run_directory / name) for name in (BAD_MINI_BATCHES_FOLDER, PROFILE_FOLDER))
    )


def newest_progress(folder: Path) -> tuple[int, int] | None:
    """Returns the progress of the most advanced checkpoint, by its name alone.

    Args:
        folder: The folder of the run's checkpoints. It may be missing.

    Returns:
        The numbers of completed epochs and training iterations; None without a checkpoint.
    """
    progress = _progress_of_all(folder).values()
    if not progress:
        return None
    iterations, epochs = max(progress)
    return epochs, iterations


def check_checkpoint(path: Path) -> None:
    """Checks that a checkpoint holds exactly the bytes that were written.

    Args:
        path: The folder of the checkpoint.

    Raises:
        CheckpointError: If a file is missing, unreadable, changed or not part of the checkpoint.
    """
    _checked_manifest(path)


def read_checkpoint(path: Path) -> Checkpoint:
    """Checks a checkpoint, then reads it without running code that its files may hold.

    Args:
        path: The folder of the checkpoint.

    Returns:
        The progress and the parts.

    Raises:
        CheckpointError: If it is damaged or holds something other than tensors and plain values.
    """
    from torchbase.files.tensors import read_tensors

    manifest = _checked_manifest(path)
    with _damage_explained(path):
        parts = {name.removesuffix(".pth"): read_tensors(path / name) for name in manifest.files}
    return Checkpoint(path, manifest.epoch, manifest.iteration, parts)


def newest_whole_checkpoint(folder: Path) -> Checkpoint | None:
    """Reads the most advanced whole checkpoint. A warning names each damaged checkpoint that is skipped.

    Args:
        folder: The folder of the run's checkpoints. It may be missing.

    Returns:
        The checkpoint; None if the folder holds no checkpoint.

    Raises:
        CheckpointError: If there are checkpoints, and all of them are damaged.
    """
    damaged = []
    for path in list_checkpoints(folder):
        try:
            return read_checkpoint(path)
        except CheckpointError as error:
            _logger.warning("Skipping the checkpoint %s: %s", path.name, error)
            damaged.append(f"- {error}")
    if damaged:
        listed = "\n".join(damaged)
        raise CheckpointError(f"No checkpoint in {folder} is whole. To fix, restore one, or start a new run:\n{listed}")
    return None


def keep_newest(folder: Path, count: int, whole: Path | None = None) -> None:
    """Removes all checkpoints except the most advanced ones.

    Counting starts at the first whole checkpoint, which is therefore never removed in favor of a damaged one.

    Args:
        folder: The folder of the run's checkpoints.
        count: The number of checkpoints to keep, at least 1.
        whole: A checkpoint that is known to be whole, since it was just written. It isn't read again.

    Raises:
        CheckpointError: If ``count`` is less than 1.
        RunDirectoryError: If the operating system reports an error.
    """
    if count < 1:
        raise CheckpointError(
            f"Can't keep the newest {count} checkpoints of {folder}. To fix, pass a count of at least 1."
        )
    paths = list_checkpoints(folder)
    if len(paths) <= count:  # checking the first checkpoint would read gigabytes for nothing
        return
    for position, path in enumerate(paths):
        try:
            if path != whole:
                check_checkpoint(path)
        except CheckpointError as error:
            _logger.warning(
                "The damaged checkpoint %s doesn't count among the checkpoints to keep: %s", path.name, error
            )
            continue
        for surplus in paths[position + count :]:
            durable.remove_durably(surplus)
        return


def _is_filled(folder: Path) -> bool:
    with durable.os_errors_explained("list", folder):
        return folder.is_dir() and any(folder.iterdir())


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
        raise CheckpointError(
            f"The checkpoint {path} is damaged: {error}. To fix, use another checkpoint, or restore it."
        ) from error


def _checked_manifest(path: Path) -> "Manifest":
    from torchbase.checkpoints.manifest import MANIFEST_FILE, check_manifest

    with _damage_explained(path):
        manifest = check_manifest(path)
        if path.name != _name(manifest.epoch, manifest.iteration) and _NAME.fullmatch(path.name):
            raise RunDirectoryError(
                f"{MANIFEST_FILE} belongs to epoch {manifest.epoch}, iteration {manifest.iteration}"
            )
    return manifest


def _name(epoch: int, iteration: int) -> str:
    return f"checkpoint-epoch-{epoch:06d}-iteration-{iteration:010d}"
