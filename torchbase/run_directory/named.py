"""The directory of a run that is begun under a name, or that has been begun under it before."""

import os
import re
from pathlib import Path

from torchbase.errors import RunDirectoryError
from torchbase.files.durable import make_folder, os_errors_explained
from torchbase.run_directory.config_snapshot import CONFIG_FILE
from torchbase.run_directory.directory import RunDirectory
from torchbase.run_directory.lock import LOCK_FILE
from torchbase.run_directory.names import STATES_FOLDER

_TAG = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
# A session makes the lock first, in an empty directory. A copy may lack hidden files.
_SIGNS_OF_A_RUN = frozenset((LOCK_FILE, STATES_FOLDER, CONFIG_FILE))
_NAMES_LISTED = 3


def open_or_make(parent: Path | str, tag: object) -> RunDirectory:
    """Opens the directory of a run by its name, and makes it if it is missing.

    Any number of processes may call it at once: all of them get the directory, and `RunDirectory.lock` decides which
    one writes. For the same reason the directory counts as an earlier one, which isn't removed again: another process
    may have opened it.

    Args:
        parent: The folder of all runs. It is created if it is missing.
        tag: The name of the directory in it.

    Returns:
        The directory. It isn't locked yet.

    Raises:
        RunDirectoryError: If the tag can't name a directory, if it names something else than a run, or if the
            operating system reports an error.
    """
    path = checked_path(parent, tag)
    make_folder(path)
    return RunDirectory.open(path.parent, path.name)


def checked_path(parent: Path | str, tag: object) -> Path:
    """Returns the path of a run that is named by its tag, whether the run has been begun or not.

    Args:
        parent: The folder of all runs; it may be missing.
        tag: The name of the directory in it.

    Returns:
        The absolute path.

    Raises:
        RunDirectoryError: If the tag can't name a directory, if it names something else than a run, or if the
            operating system reports an error.
    """
    if not isinstance(tag, str) or not _TAG.fullmatch(tag):
        found = repr(tag) if isinstance(tag, str) else f"{tag!r} ({type(tag).__name__})"
        raise RunDirectoryError(
            f"{found} can't be the name of a run directory. To fix, pass a str of ASCII letters, digits, '.', '_' and "
            "'-' that doesn't begin with '.'; the folder of the runs is runs_parent_dir."
        )
    path = Path(parent).absolute() / tag
    if os.path.lexists(path) and not path.is_dir():
        raise RunDirectoryError(f"{path} is a file, so no run can have this name. To fix, pass another tag.")
    names = _names_in(path)
    if names and not _SIGNS_OF_A_RUN & names:
        listed = ", ".join(sorted(names)[:_NAMES_LISTED])
        raise RunDirectoryError(
            f"{path} isn't the directory of a run: it has no {CONFIG_FILE}, but {listed}"
            f"{'…' if len(names) > _NAMES_LISTED else ''}. To fix, pass another tag, or another runs_parent_dir."
        )
    return path


def _names_in(path: Path) -> set[str]:
    with os_errors_explained("list", path):
        return set(os.listdir(path)) if path.is_dir() else set()
