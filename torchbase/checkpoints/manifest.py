"""The manifest of a checkpoint: its files, with a checksum of each file and of the manifest itself."""

import hashlib
import json
from io import BufferedRandom, BufferedReader
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ValidationError

from torchbase.errors import RunDirectoryError
from torchbase.files.durable import checksum

MANIFEST_FILE = "manifest.json"
FORMAT_VERSION: Literal[3] = 3


class FileRecord(BaseModel):
    """The size in bytes and the SHA-256 checksum of a file."""

    size: int
    sha256: str


class Manifest(BaseModel):
    """The progress and the files of a checkpoint."""

    format_version: Literal[3] = FORMAT_VERSION
    epoch: int
    iteration: int
    files: dict[str, FileRecord]

    def to_bytes(self) -> bytes:
        """Returns the content of the manifest file, including its own checksum."""
        content = self.model_dump()
        own_checksum = hashlib.sha256(json.dumps(content).encode()).hexdigest()
        return json.dumps({**content, "sha256": own_checksum}, indent=2).encode()


def record_of(file: BufferedReader | BufferedRandom) -> FileRecord:
    """Describes the content of a file.

    Args:
        file: The file, open for reading.

    Returns:
        The size and the checksum.
    """
    return FileRecord(sha256=checksum(file), size=file.tell())


def check_manifest(folder: Path) -> Manifest:
    """Checks that the files of a checkpoint are exactly those of its manifest.

    Args:
        folder: The folder of the checkpoint.

    Returns:
        The manifest.

    Raises:
        RunDirectoryError: If a file is missing, changed or not part of the checkpoint.
        OSError: If a file can't be read.
    """
    manifest = _read_manifest(folder)
    present = {file.name for file in folder.iterdir()} - {MANIFEST_FILE}
    for name in sorted(present ^ manifest.files.keys()):
        raise RunDirectoryError(f"{name} is {'not part of the checkpoint' if name in present else 'missing'}")
    for name, record in manifest.files.items():
        with open(folder / name, "rb") as file:
            found = record_of(file)
        if found != record:
            raise RunDirectoryError(f"{name} was changed after it was written: it has {found}, expected {record}")
    return manifest


def _read_manifest(folder: Path) -> Manifest:
    content = (folder / MANIFEST_FILE).read_bytes()
    try:
        manifest = Manifest.model_validate_json(content, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        if first["loc"] == ("format_version",):
            raise RunDirectoryError(
                f"{MANIFEST_FILE} has format {first['input']!r}, and this version of torchbase reads format "
                f"{FORMAT_VERSION}: resume with the version that wrote it, or start a new run from its network "
                "(source_run_dir_tag)"
            ) from error
        where = ".".join(str(key) for key in first["loc"]) or "as a whole"
        raise RunDirectoryError(f"{MANIFEST_FILE} isn't a manifest ({where}: {first['msg']})") from error
    # Compared as bytes, so even a changed space is noticed, although JSON ignores it.
    if manifest.to_bytes() != content:
        raise RunDirectoryError(f"{MANIFEST_FILE} was changed after it was written")
    return manifest
