"""The manifest of a checkpoint: which files it consists of, with a checksum for every byte of them and of itself."""

import hashlib
import json
from io import BufferedRandom, BufferedReader
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ValidationError

from torchbase.errors import RunDirectoryError
from torchbase.files.durable import checksum

MANIFEST_FILE = "manifest.json"
FORMAT_VERSION: Literal[2] = 2


class FileRecord(BaseModel):
    """Size in bytes and SHA-256 of a file."""

    size: int
    sha256: str


class Manifest(BaseModel):
    """What a checkpoint consists of, by the names of its files."""

    format_version: Literal[2] = FORMAT_VERSION
    epoch: int
    iteration: int
    files: dict[str, FileRecord]

    def to_bytes(self) -> bytes:
        """Gives the content of the manifest's file, its own checksum included."""
        content = self.model_dump()
        own_checksum = hashlib.sha256(json.dumps(content).encode()).hexdigest()
        return json.dumps({**content, "sha256": own_checksum}, indent=2).encode()


def record_of(file: BufferedReader | BufferedRandom) -> FileRecord:
    """Describes the content of a file.

    Args:
        file: The file, open for reading.

    Returns:
        Its size and checksum.
    """
    return FileRecord(sha256=checksum(file), size=file.tell())


def check_manifest(folder: Path) -> Manifest:
    """Checks that a folder holds exactly the bytes that its manifest was written for.

    Args:
        folder: The checkpoint's own folder.

    Returns:
        The manifest.

    Raises:
        RunDirectoryError: A file is missing, changed or not part of it.
        OSError: A file can't be read.
    """
    manifest = _read_manifest(folder)
    present = {file.name for file in folder.iterdir()} - {MANIFEST_FILE}
    for name in sorted(present ^ manifest.files.keys()):
        raise RunDirectoryError(f"{name} is {'not part of it' if name in present else 'missing'}")
    for name, record in manifest.files.items():
        with open(folder / name, "rb") as file:
            found = record_of(file)
        if found != record:
            raise RunDirectoryError(f"{name} was changed after it was written: it has {found}, and had {record}")
    return manifest


def _read_manifest(folder: Path) -> Manifest:
    content = (folder / MANIFEST_FILE).read_bytes()
    try:
        manifest = Manifest.model_validate_json(content, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        if first["loc"] == ("format_version",):
            raise RunDirectoryError(
                f"{MANIFEST_FILE} is of format {first['input']!r}, and this version of torchbase reads "
                f"{FORMAT_VERSION}: resume with the version that wrote it, or begin a new run with its network "
                "(source_run_dir_tag)"
            ) from error
        where = ".".join(str(key) for key in first["loc"]) or "as a whole"
        raise RunDirectoryError(f"{MANIFEST_FILE} isn't a manifest ({where}: {first['msg']})") from error
    # Compared as bytes, so that even a changed space, which means nothing to JSON, is noticed.
    if manifest.to_bytes() != content:
        raise RunDirectoryError(f"{MANIFEST_FILE} was changed after it was written")
    return manifest
