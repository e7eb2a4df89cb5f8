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
FORMAT_VERSION_WITH_SHARDS: Literal[4] = 4


class FileRecord(BaseModel):
    """The size in bytes and the SHA-256 checksum of a file."""

    size: int
    sha256: str


class Manifest(BaseModel):
    """The progress and the files of a checkpoint. Version 4 also names the files that hold shards."""

    format_version: Literal[3, 4] = FORMAT_VERSION
    epoch: int
    iteration: int
    files: dict[str, FileRecord]
    shards: list[str] = []

    def to_bytes(self) -> bytes:
        """Returns the content of the manifest file, including its own checksum."""
        content = self.model_dump(exclude={"shards"} if self.format_version == FORMAT_VERSION else None)
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


def check_manifest(folder: Path, reader: int = 0, readers: int = 1) -> Manifest:
    """Checks that the files of a checkpoint are exactly those of its manifest.

    Args:
        folder: The folder of the checkpoint.
        reader: The number of this reader, of those that share out the files, from 0.
        readers: How many there are. Together they read each file once.

    Returns:
        The manifest.

    Raises:
        RunDirectoryError: If a file is missing, changed or not part of the checkpoint.
        OSError: If a file can't be read.
    """
    manifest = read_manifest(folder)
    present = {file.name for file in folder.iterdir()} - {MANIFEST_FILE}
    for name in sorted(present ^ manifest.files.keys()):
        raise RunDirectoryError(f"{name} is {'not part of the checkpoint' if name in present else 'missing'}")
    for name, record in list(manifest.files.items())[reader::readers]:
        with open(folder / name, "rb") as file:
            found = record_of(file)
        if found != record:
            raise RunDirectoryError(f"{name} was changed after it was written: it has {found}, expected {record}")
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """Reads the manifest of a checkpoint.

    Args:
        folder: The folder of the checkpoint.

    Returns:
        The manifest.

    Raises:
        RunDirectoryError: If it isn't a manifest, was changed, or has an unknown format.
        OSError: If it can't be read.
    """
    content = (folder / MANIFEST_FILE).read_bytes()
    try:
        manifest = Manifest.model_validate_json(content, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        if first["loc"] == ("format_version",):
            raise RunDirectoryError(
                f"{MANIFEST_FILE} has format {first['input']!r}, and this version of torchbase reads formats "
                f"{FORMAT_VERSION} and {FORMAT_VERSION_WITH_SHARDS}: resume with the version that wrote it, or start "
                "a new run from its network (source_run_dir_tag)"
            ) from error
        where = ".".join(str(key) for key in first["loc"]) or "as a whole"
        raise RunDirectoryError(f"{MANIFEST_FILE} isn't a manifest ({where}: {first['msg']})") from error
    # Compared as bytes, so even a changed space is noticed, although JSON ignores it.
    if manifest.to_bytes() != content:
        raise RunDirectoryError(f"{MANIFEST_FILE} was changed after it was written")
    return manifest
