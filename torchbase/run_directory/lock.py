"""Who has locked a run directory, and whether it is locked, checked without locking it."""

import json
import logging
import os
import socket
import sys
from datetime import datetime
from pathlib import Path

from torchbase.errors import RunDirectoryError
from torchbase.files.durable import read_json, replace_file

if sys.platform != "win32":
    import fcntl

LOCK_FILE = ".lock"
HOLDER_FILE = ".holder.json"  # apart from the lock, which some versions of filelock empty when they try to take it

_logger = logging.getLogger("torchbase")


def is_locked(folder: Path) -> bool | None:
    """Whether a process has locked a run directory, on this machine or on another machine that shares the disk.

    The operating system releases a lock when its process ends in any way. A process id is less reliable: another
    process may have the same id, later or in another container. The check takes a shared lock for an instant;
    `torchbase.run_directory.directory.RunDirectory.lock` waits for it.

    Args:
        folder: The run directory.

    Returns:
        Whether it is locked; None if the operating system can't say.
    """
    if sys.platform == "win32":
        return None
    try:
        descriptor = os.open(folder / LOCK_FILE, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return None
    finally:
        os.close(descriptor)
    return False


def note_holder(folder: Path) -> None:
    """Writes which process has locked a run directory, for the message that another one shows.

    A disk error is a warning: it makes that message shorter, and nothing else.

    Args:
        folder: The run directory, which this process has locked.
    """
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    holder = {"process_id": os.getpid(), "host": socket.gethostname(), "since": since}
    try:
        replace_file(folder / HOLDER_FILE, json.dumps(holder).encode() + b"\n")
    except RunDirectoryError as error:
        _logger.warning("Another session won't be able to say which process has locked %s: %s", folder, error)


def forget_holder(folder: Path) -> None:
    """Removes what `note_holder` has written. A disk error is a warning.

    Args:
        folder: The run directory, which this process has locked. It may have been removed.
    """
    try:
        (folder / HOLDER_FILE).unlink(missing_ok=True)
    except OSError as error:
        _logger.warning(
            "Another session may say that this process has locked %s, after it has ended: %s", folder, error
        )


def describe_holder(folder: Path) -> str:
    """Returns which process has locked a run directory, by what it has written: its id, its machine, and since when.

    Args:
        folder: The run directory, which another process has locked.
    """
    try:
        holder = read_json(folder / HOLDER_FILE)
        return f"process {int(holder['process_id'])} on {holder['host']}, since {holder['since']}"
    except (RunDirectoryError, KeyError, TypeError, ValueError) as error:
        return f"it isn't known which one ({error})"


def is_open_here(file: Path) -> bool:
    """Whether this process has opened a file, for a message.

    Args:
        file: The file.

    Returns:
        Whether it is open; False if the operating system can't say.
    """
    try:
        opened, descriptors = os.stat(file), os.listdir("/dev/fd")
    except OSError:  # as on Windows
        return False
    return any(_is_descriptor_of(int(number), opened) for number in descriptors)


def _is_descriptor_of(number: int, file: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.fstat(number), file)
    except OSError:  # closed since it was listed
        return False
