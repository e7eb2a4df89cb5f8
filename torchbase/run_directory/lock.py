"""Whether a process has locked a run directory, checked without locking it."""

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
