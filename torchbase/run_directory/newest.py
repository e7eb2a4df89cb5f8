"""Which run of a folder is the newest, by what the runs recorded, whatever their folders are called."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from torchbase.errors import RunDirectoryError
from torchbase.files.durable import os_errors_explained
from torchbase.run_directory.config_snapshot import CONFIG_FILE
from torchbase.run_directory.record import STATUS_FILE, read_status
from torchbase.run_directory.status import Status

_logger = logging.getLogger("torchbase")


def next_order(parent: Path) -> int:
    """Returns the `torchbase.run_directory.record.Status.order` of a run that begins now.

    Args:
        parent: The folder of all run directories.

    Returns:
        The time in microseconds since 1970 or, if the clock was set back, one more than the highest order in the
        folder.
    """
    highest = max((status.order for status in _records(parent).values() if status is not None), default=0)
    return max(time.time_ns() // 1000, highest + 1)


def newest_run(parent: Path, has_results: Callable[[Path], bool]) -> str:
    """Finds the run that was begun last. Of a run and its copies, it is the one that was resumed last.

    A run directory that was made and never begun is passed over, unless no run was begun.

    Args:
        parent: The folder of all run directories.
        has_results: Called with the path of a run directory. Returns whether it has results.

    Returns:
        The tag of the run.

    Raises:
        RunDirectoryError: If there is none that saved its config.
    """
    with os_errors_explained("list", parent):
        tags = sorted(path.parent.name for path in parent.glob(f"*/{CONFIG_FILE}"))
    if not tags:
        raise RunDirectoryError(
            f"There is no run to resume in {parent}: no folder in it holds a {CONFIG_FILE}. To fix, pass the folder in "
            "which the run was started."
        )
    records = _records(parent)
    begun = {tag: status for tag in tags if (status := records.get(tag)) is not None}
    of_unknown_age = [tag for tag in tags if tag not in begun and (tag in records or has_results(parent / tag))]
    if not begun:
        return (of_unknown_age or tags)[-1]
    newest = max(begun, key=lambda tag: _age(tag, begun[tag]))
    if of_unknown_age:
        _logger.warning(
            "It isn't known when these runs began, since they have no %s that can be read: %s. %s is the newest of the "
            "others. To open another run, pass its tag.",
            STATUS_FILE,
            ", ".join(of_unknown_age),
            newest,
        )
    return newest


def _age(tag: str, status: Status) -> tuple[int, str, bool]:
    # The record of a copy names the original.
    return status.order, status.resumed_at or "", status.tag == tag


def _records(parent: Path) -> dict[str, Status | None]:
    """Returns the statuses of all runs that recorded one, by tag; None for one that can't be read."""
    with os_errors_explained("list", parent):
        folders = [file.parent for file in parent.glob(f"*/{STATUS_FILE}")]
    return {folder.name: _status_of(folder) for folder in folders}


def _status_of(folder: Path) -> Status | None:
    try:
        return read_status(folder)
    except RunDirectoryError:
        return None
