"""Files and folders that are either whole on disk or not there at all, whatever ends the process.

Everything is first written under a temporary name in the same folder, pushed to the disk, and only then renamed: a
rename is one step, so a reader sees what was there before or what is there now, never half of it.
"""

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from io import BufferedRandom, BufferedReader, FileIO
from pathlib import Path
from typing import Any, BinaryIO

from torchbase.errors import RunDirectoryError

NewFile = Callable[[str], AbstractContextManager[BufferedRandom]]

_BUFFER_BYTES = 2**16
_TEMPORARY_NAME = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")
_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "Free some space, or keep the runs on another disk."),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "Choose a folder that you may read and write."),
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), "Something else is in its place: move that, or choose another."),
    errno.ENOENT: "Check the path: it, or a folder on the way to it, is not there.",
}


@contextmanager
def os_errors_explained(action: str, path: Path) -> Iterator[None]:
    """Turn any OSError of the body into a RunDirectoryError (same ``errno``) that says what to do about it.

    Args:
        action: What the body does with the path, as a verb ("write").
        path: The file or folder.
    """
    try:
        yield
    except RunDirectoryError:
        raise
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "Mend what the system reports, then run again.")
        explained = RunDirectoryError(f"can't {action} {path}: {error.strerror or error}. {remedy}")
        explained.errno = error.errno
        raise explained from error


def sync_folder(path: Path) -> None:
    """Push a folder's list of names to the disk, without which a rename may be lost with the power."""
    with os_errors_explained("sync", path):
        if os.name == "nt":  # Windows can't open a folder, and keeps its list of names by itself
            return
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def make_folder(path: Path) -> Path:
    """Make a folder and the missing ones above it, each of them kept on the disk; return its path."""
    with os_errors_explained("make the folder", path):
        if not path.is_dir():
            make_folder(path.parent)
            path.mkdir(exist_ok=True)
            sync_folder(path.parent)
    return path


def write_durably(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file, or replace one, so that no reader and no crash ever meets half of it.

    Args:
        path: The file; its folder has to exist.
        write: Puts the content into the open binary file that it is given. If it raises, ``path`` stays as it was.

    Raises:
        RunDirectoryError: The operating system refused.
    """
    with os_errors_explained("write", path), _temporary_sibling(path) as temporary:
        with _new_file(temporary) as file:
            write(file)
        os.replace(temporary, path)
        sync_folder(path.parent)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file, or replace one, in one step for every reader and every killed process, but not for a power failure.

    For what is written again and again and only informs: it doesn't wait for the disk, which takes milliseconds. After
    a power failure the file may be an older one, or empty.

    Args:
        path: The file; its folder has to exist.
        content: The whole content.

    Raises:
        RunDirectoryError: The operating system refused.
    """
    with os_errors_explained("write", path), _temporary_sibling(path) as temporary:
        temporary.write_bytes(content)
        os.replace(temporary, path)


def write_folder_durably(path: Path, fill: Callable[[NewFile], object]) -> None:
    """Write a new folder with all its files in one step.

    Args:
        path: The folder, which must not exist yet; the folder above it has to.
        fill: Writes the files, each of which it opens with the function that it is given, by name, in a ``with``; they
            can be read, too. If it raises, nothing is left behind.

    Raises:
        RunDirectoryError: ``path`` exists already, or the operating system refused.
    """
    with os_errors_explained("write", path), _temporary_sibling(path) as temporary:
        temporary.mkdir()
        fill(lambda name: _new_file(temporary / name))
        sync_folder(temporary)
        if os.path.lexists(path):  # a rename onto an empty folder would silently succeed
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        temporary.rename(path)
        sync_folder(path.parent)


def remove_durably(path: Path) -> None:
    """Remove a file or folder so that no crash leaves half of it under its name."""
    with os_errors_explained("remove", path), _temporary_sibling(path) as temporary:
        path.rename(temporary)
        sync_folder(path.parent)
        _remove(temporary)


def remove_leftovers(folder: Path) -> None:
    """Delete what a killed process left in a folder (not in the ones inside it) under temporary names.

    Only the process that alone writes the folder may call this: a file that another one is writing has such a name.
    """
    with os_errors_explained("remove leftovers in", folder):
        for path in list(folder.iterdir()):
            if _TEMPORARY_NAME.fullmatch(path.name):
                _remove(path)


def checksum(file: BufferedReader | BufferedRandom) -> str:
    """Compute the SHA-256 of the whole content of a file that is open for reading, as 64 hexadecimal digits."""
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, durably.

    Args:
        path: The file; its folder has to exist.
        value: Dictionaries, lists, strings, finite numbers, booleans and None.

    Raises:
        RunDirectoryError: The value isn't JSON (NaN and infinity aren't either), or the operating system refused.
    """
    try:
        content = json.dumps(value, indent=2, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise RunDirectoryError(
            f"can't write {path}: {error}. JSON holds dictionaries, lists, strings, finite numbers, booleans and None: "
            f"turn the rest into one of them first (what may be NaN: str(number))."
        ) from error
    write_durably(path, lambda file: file.write(content))


def read_json(path: Path) -> Any:
    """Read what `write_json` wrote.

    Raises:
        RunDirectoryError: The file can't be read or isn't JSON.
    """
    with os_errors_explained("read", path):
        content = path.read_bytes()
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise RunDirectoryError(f"{path} is damaged, it isn't JSON: {error}. Restore it from a copy.") from error


@contextmanager
def _temporary_sibling(path: Path) -> Iterator[Path]:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        yield temporary
    except BaseException:
        if os.path.lexists(temporary):
            _remove(temporary)
        raise


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


@contextmanager
def _new_file(path: Path) -> Iterator[BufferedRandom]:
    # A buffer, since each call of the system lets the other threads go on, and waits for them: a thread that writes
    # small pieces takes far longer, and holds up the training far longer.
    with BufferedRandom(FileIO(path, "x+"), _BUFFER_BYTES) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
