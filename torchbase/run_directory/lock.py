"""Whether a process has locked a run directory, and whether it is this process, checked without locking it."""

import os
import sys
from pathlib import Path

if sys.platform != "win32":
    import fcntl

LOCK_FILE = ".lock"


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
