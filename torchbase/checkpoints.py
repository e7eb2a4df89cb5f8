"""Checkpoints: one folder per kept point of a run, with a manifest that proves every byte of it.

``checkpoint-epoch-000003-iteration-0000000171/`` holds one ``<part>.pth`` per part and ``manifest.json``: the progress,
the size and SHA-256 of every file, and the SHA-256 of the manifest's own content.
"""

import hashlib
import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from torchbase import durable_files
from torchbase.errors import CheckpointError, RunDirectoryError

_MANIFEST = "manifest.json"
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


class _FileRecord(BaseModel):
    size: int
    sha256: str


class _Manifest(BaseModel):
    format_version: Literal[1] = 1
    epoch: int
    iteration: int
    files: dict[str, _FileRecord]

    def to_bytes(self) -> bytes:
        content = self.model_dump()
        own_checksum = hashlib.sha256(json.dumps(content).encode()).hexdigest()
        return json.dumps({**content, "sha256": own_checksum}, indent=2).encode()


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
    if epoch < 0 or iteration < 0:
        raise CheckpointError(f"a checkpoint's progress counts from 0: epoch {epoch}, iteration {iteration} came.")
    for name in parts:
        if not _PART.fullmatch(name):
            raise CheckpointError(f"the part {name!r} can't name a file: use letters, digits, '_' and '-' only.")
    path = durable_files.make_folder(folder) / _name(epoch, iteration)
    if path.exists():
        try:
            check_checkpoint(path)
        except CheckpointError as error:
            _logger.warning("a damaged checkpoint is replaced: %s", error)
            durable_files.remove_durably(path)
        else:
            return path

    def fill(temporary: Path) -> None:
        for name, value in parts.items():
            durable_files.write_tensors(temporary / f"{name}.pth", value)
        files = {file.name: _record_of(file) for file in sorted(temporary.iterdir())}
        manifest = _Manifest(epoch=epoch, iteration=iteration, files=files)
        (temporary / _MANIFEST).write_bytes(manifest.to_bytes())

    durable_files.write_folder_durably(path, fill)
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints of a folder by their names alone, the most advanced first.

    Args:
        folder: The folder of the run's checkpoints, which may be missing.

    Returns:
        Their folders, by iteration and then epoch; anything else in the folder is left out.
    """
    with durable_files.os_errors_explained("list", folder):
        if not folder.exists():
            return []
        found = {path: _NAME.fullmatch(path.name) for path in folder.iterdir() if path.is_dir()}
    progress = {path: (int(match[2]), int(match[1])) for path, match in found.items() if match}
    return sorted(progress, key=lambda path: progress[path], reverse=True)


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
    manifest = _checked_manifest(path)
    with _damage_explained(path):
        parts = {name.removesuffix(".pth"): durable_files.read_tensors(path / name) for name in manifest.files}
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


def keep_newest(folder: Path, count: int) -> None:
    """Remove all but the most advanced checkpoints.

    Counting begins at the first whole one, so it is never given up for a damaged one that is further on.

    Args:
        folder: The folder of the run's checkpoints.
        count: How many to keep, at least 1.

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
            check_checkpoint(path)
        except CheckpointError as error:
            _logger.warning("the checkpoint %s is not counted among those to keep: %s", path.name, error)
            continue
        for surplus in paths[position + count :]:
            durable_files.remove_durably(surplus)
        return


@contextmanager
def _damage_explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"the checkpoint {path} is damaged: {error}. Take another, or restore it.") from error


def _checked_manifest(path: Path) -> _Manifest:
    with _damage_explained(path):
        manifest = _read_manifest(path)
        present = {file.name for file in path.iterdir()} - {_MANIFEST}
        for name in sorted(present ^ manifest.files.keys()):
            raise RunDirectoryError(f"{name} is {'not part of it' if name in present else 'missing'}")
        for name, record in manifest.files.items():
            found = _record_of(path / name)
            if found != record:
                raise RunDirectoryError(f"{name} was changed after it was written: it has {found}, and had {record}")
    return manifest


def _read_manifest(path: Path) -> _Manifest:
    content = (path / _MANIFEST).read_bytes()
    try:
        manifest = _Manifest.model_validate_json(content, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(key) for key in first["loc"]) or "as a whole"
        raise RunDirectoryError(f"{_MANIFEST} isn't a manifest ({where}: {first['msg']})") from error
    # Compared as bytes, so that even a changed space, which means nothing to JSON, is noticed.
    if manifest.to_bytes() != content:
        raise RunDirectoryError(f"{_MANIFEST} was changed after it was written")
    if path.name != _name(manifest.epoch, manifest.iteration) and _NAME.fullmatch(path.name):
        raise RunDirectoryError(f"{_MANIFEST} is of epoch {manifest.epoch}, iteration {manifest.iteration}")
    return manifest


def _record_of(file: Path) -> _FileRecord:
    return _FileRecord(size=file.stat().st_size, sha256=durable_files.checksum(file))


def _name(epoch: int, iteration: int) -> str:
    return f"checkpoint-epoch-{epoch:06d}-iteration-{iteration:010d}"
