"""Files and folders that are either complete on disk or not there, even if the process is killed.

All content is written under a temporary name in the same folder, synced to the disk, and then renamed. A rename is one
step: a reader sees the old content or the new content, never a part of it.
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
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "To fix, free some space, or save the runs on another disk."),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "To fix, choose a folder that you may read and write."),
    **dict.fromkeys(
        (errno.ENOTDIR, errno.EEXIST), "Another file is in its place. To fix, move that file, or choose another path."
    ),
    errno.ENOENT: "The path, or a folder above it, is missing. To fix, check the path.",
}


@contextmanager
def os_errors_explained(action: str, path: Path) -> Iterator[None]:
    """Turns an OSError of the ``with`` body into a RunDirectoryError with the same ``errno`` that says how to fix it.

    Args:
        action: A verb for what the body does with the path, e.g. "write".
        path: The file or folder.
    """
    try:
        yield
    except RunDirectoryError:
        raise
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "To fix, resolve what the system reports, then run again.")
        explained = RunDirectoryError(f"can't {action} {path}: {error.strerror or error}. {remedy}")
        explained.errno = error.errno
        raise explained from error


def sync_folder(path: Path) -> None:
    """Syncs a folder's list of names to the disk. Otherwise a power failure may undo a rename."""
    with os_errors_explained("sync", path):
        if os.name == "nt":  # Windows can't open a folder, and syncs its list of names on its own
            return
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def make_folder(path: Path) -> Path:
    """Makes a folder and the missing folders above it, syncs each to the disk, and returns its path."""
    with os_errors_explained("make the folder", path):
        if not path.is_dir():
            make_folder(path.parent)
            path.mkdir(exist_ok=True)
            sync_folder(path.parent)
    return path


def write_durably(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes or replaces a file. Neither a reader nor a crash ever finds a part of it.

    Args:
        path: The file. Its folder must exist.
        write: Called with the open binary file to write the content. If it raises, ``path`` is unchanged.

    Raises:
        RunDirectoryError: If the operating system reports an error.
    """
    with os_errors_explained("write", path), _temporary_sibling(path) as temporary:
        with new_file(temporary) as file:
            write(file)
        os.replace(temporary, path)
        sync_folder(path.parent)


def replace_file(path: Path, content: bytes) -> None:
    """Writes or replaces a file in one step, without waiting for the disk.

    It suits files that only inform and are written often: waiting for the disk takes milliseconds. Readers and killed
    processes never find a part of the file. After a power failure, it may be an older version or empty.

    Args:
        path: The file. Its folder must exist.
        content: The whole content.

    Raises:
        RunDirectoryError: If the operating system reports an error.
    """
    with os_errors_explained("write", path), _temporary_sibling(path) as temporary:
        temporary.write_bytes(content)
        os.replace(temporary, path)


def write_folder_durably(path: Path, fill: Callable[[NewFile], object]) -> None:
    """Writes a new folder with all its files in one step.

    Args:
        path: The folder. It must not exist yet, but the folder above it must.
        fill: Writes the files. It is called with a function that opens a file by its name, for writing and reading, in
            a ``with`` statement. If it raises, nothing stays on the disk.

    Raises:
        RunDirectoryError: If ``path`` exists already, or the operating system reports an error.
    """
    with os_errors_explained("write", path), _temporary_sibling(path) as temporary:
        temporary.mkdir()
        fill(lambda name: new_file(temporary / name))
        put_in_place(temporary, path)


def make_temporary_folder(path: Path) -> Path:
    """Makes a folder with a temporary name, for `put_in_place`. `remove_leftovers` removes it if it stays.

    Args:
        path: The folder that it will be.

    Returns:
        The folder with the temporary name, beside ``path``.

    Raises:
        RunDirectoryError: If the operating system reports an error.
    """
    temporary = _temporary_name(path)
    with os_errors_explained("write", path):
        temporary.mkdir()
    return temporary


def put_in_place(temporary: Path, path: Path) -> None:
    """Renames a folder whose files are synced, so that all of it appears in one step.

    Args:
        temporary: The folder under a temporary name, beside ``path``.
        path: The new name. Nothing may have it yet.

    Raises:
        RunDirectoryError: If ``path`` exists already, or the operating system reports an error.
    """
    with os_errors_explained("write", path):
        sync_folder(temporary)
        if os.path.lexists(path):  # a rename onto an empty folder would silently succeed
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        temporary.rename(path)
        sync_folder(path.parent)


@contextmanager
def new_file(path: Path) -> Iterator[BufferedRandom]:
    """Opens a new file for writing and reading, and syncs it to the disk at the end.

    Args:
        path: The file. It must not exist yet, and isn't removed after an error: use it in a folder of a temporary name.

    Yields:
        The file.
    """
    # Buffered, since each system call releases the interpreter lock and waits for it again. Without the buffer, a
    # thread that writes small pieces takes far longer and delays the training far longer.
    with BufferedRandom(FileIO(path, "x+"), _BUFFER_BYTES) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def remove_durably(path: Path) -> None:
    """Removes a file or folder. No crash leaves a part of it under its name."""
    with os_errors_explained("remove", path), _temporary_sibling(path) as temporary:
        path.rename(temporary)
        sync_folder(path.parent)
        _remove(temporary)


def remove_leftovers(folder: Path) -> None:
    """Removes the temporary files and folders that a killed process left directly in a folder.

    Only the process that writes to the folder may call this: a file that it is writing has a temporary name, too.
    """
    with os_errors_explained("remove leftovers in", folder):
        for path in list(folder.iterdir()):
            if _TEMPORARY_NAME.fullmatch(path.name):
                _remove(path)


def checksum(file: BufferedReader | BufferedRandom) -> str:
    """Returns the SHA-256 checksum of a whole file that is open for reading, as 64 hexadecimal digits."""
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Writes a value as indented JSON, durably.

    Args:
        path: The file. Its folder must exist.
        value: Dictionaries, lists, strings, finite numbers, booleans and None.

    Raises:
        RunDirectoryError: If JSON can't hold the value (NaN and infinity included), or the operating system reports an
            error.
    """
    try:
        content = json.dumps(value, indent=2, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise RunDirectoryError(
            f"can't write {path}: {error}. JSON holds dictionaries, lists, strings, finite numbers, booleans and None. "
            f"To fix, convert everything else first (a number that may be NaN: str(number))."
        ) from error
    write_durably(path, lambda file: file.write(content))


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        RunDirectoryError: If the file can't be read or isn't JSON.
    """
    with os_errors_explained("read", path):
        content = path.read_bytes()
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise RunDirectoryError(
            f"{path} is damaged, it isn't JSON: {error}. To fix, restore it from a copy."
        ) from error


@contextmanager
def _temporary_sibling(path: Path) -> Iterator[Path]:
    temporary = _temporary_name(path)
    try:
        yield temporary
    except BaseException:
        if os.path.lexists(temporary):
            _remove(temporary)
        raise


def _temporary_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
