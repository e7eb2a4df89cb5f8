"""Whether a process has reserved a run directory, asked without reserving it."""

import os
import sys
from pathlib import Path

if sys.platform != "win32":
    import fcntl

LOCK_FILE = ".lock"


def is_locked(folder: Path) -> bool | None:
    """Asks whether a run directory is reserved, be it by a process of this machine or of another that shares the disk.

    The system gives a lock free when its process ends, in whatever way. A process id says less: another process may
    have the same one, later or in another container. A shared lock is taken for an instant, for which
    `torchbase.run_directory.directory.RunDirectory.lock` waits.

    Args:
        folder: The run directory.

    Returns:
        Whether it is reserved; None where the system doesn't tell.
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
