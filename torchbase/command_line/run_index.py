"""An index of the runs of a large folder, which makes a second reading quick. It may be thrown away at any time.

The index is one file in the cache folder of the user. For each run that has ended, it has what `read_run` returned, and
the sizes, times and inodes of the files from which that was read. A run whose files differ is read again, and so is
each run that hasn't ended. An index that is missing, damaged or of another version counts as empty.
"""

import hashlib
import logging
import marshal
import os
import sys
import time
import zlib
from pathlib import Path
from typing import Any

from torchbase.command_line.run_records import SavedRun, read_run
from torchbase.errors import RunDirectoryError
from torchbase.files.durable import os_errors_explained, replace_file
from torchbase.run_directory.config_snapshot import snapshots
from torchbase.run_directory.record import EPOCHS_FILE, STATUS_FILE
from torchbase.run_directory.status import Best, Status
from torchbase.run_directory.value_ranges import ValueRange

FORMAT = 1  # a change of what is stored, or of how it is read, changes this
RUNS_WORTH_AN_INDEX = 500  # they are read in a tenth of a second
# A file that changes again within one tick of the disk's clock keeps its time. So a recent time says nothing.
SECONDS_UNTIL_SETTLED = 10.0
Stamp = tuple[int, ...] | None
Entry = dict[str, Any]

_logger = logging.getLogger("torchbase")


class RunIndex:
    """The runs of a folder, read from the index as far as their files haven't changed."""

    def __init__(self, parent: Path) -> None:
        """Reads the index.

        Args:
            parent: The folder that contains the run directories.
        """
        self._parent = parent
        self._file = _file_of(parent)
        self._found = {} if self._file is None else _load(self._file, parent)
        self._entries: dict[str, Entry] = {}
        self._added = 0

    def find(self, name: str) -> SavedRun | None:
        """Returns a run of the folder, if the index has it and its files haven't changed.

        Args:
            name: The name of the run directory.
        """
        entry = self._found.get(name)
        run = None if entry is None else _run_of(entry, self._parent / name)
        if entry is not None and run is not None:
            self._entries[name] = entry
        return run

    def read(self, name: str) -> SavedRun:
        """Reads a run of the folder from its files.

        Args:
            name: The name of the run directory.

        Returns:
            What `read_run` returns.
        """
        path, now = self._parent / name, time.time_ns()
        # Before the files are read: if one changes meanwhile, it doesn't match its stamp later.
        config_name = _newest_config_name(path)
        stamps = _stamps(path, config_name)
        run = read_run(path)
        entry = _entry_of(run, config_name, stamps) if _is_settled(stamps, now) else None
        if entry is not None:
            self._entries[name] = entry
            self._added += 1
        return run

    def save(self) -> str | None:
        """Writes the index, if reading the runs without it takes noticeable time.

        Returns:
            Why it can't be written, or None.
        """
        if self._added < RUNS_WORTH_AN_INDEX or self._file is None:
            return None
        content = marshal.dumps(self._entries)
        try:
            with os_errors_explained("make the folder", self._file.parent):
                self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # In one step: another command finds the old file or the new one, and the last one that writes wins.
            replace_file(self._file, _header_of(self._parent, content) + b"\n" + content)
        except RunDirectoryError as error:
            return f"listing these runs again takes as long, since their index can't be written: {error}"
        return None


def _entry_of(run: SavedRun, config_name: str | None, stamps: list[Stamp]) -> Entry | None:
    if run.status is None or run.status.state == "running" or run.damages or run.notes:
        return None  # it may change without a change of its files
    return {
        "config_name": config_name,
        "stamps": stamps,
        "status": {**vars(run.status), "best_losses": None, "values": None, "directions": dict(run.status.directions)},
        "best_losses": {phase: (best.loss, best.epoch) for phase, best in run.best_losses.items()},
        "values": {
            phase: {name: tuple(one) for name, one in of_phase.items()} for phase, of_phase in run.values.items()
        },
        "are_in_status": run.status.values is not None,
        "config": run.config,
    }


def _run_of(entry: Entry, path: Path) -> SavedRun | None:
    """Returns the run of an entry; None if its files have changed."""
    if _stamps(path, entry["config_name"]) != entry["stamps"]:
        return None
    values = {
        phase: {name: ValueRange(*one) for name, one in of_phase.items()} for phase, of_phase in entry["values"].items()
    }
    best_losses = {phase: Best(*best) for phase, best in entry["best_losses"].items()}
    in_status = values if entry["are_in_status"] else None
    status = Status(**{**entry["status"], "best_losses": best_losses, "values": in_status})
    progress = status.epochs_done, status.max_epochs, status.max_iterations, status.iterations
    return SavedRun(path, status.state, status, entry["config"], *progress, values, notes=(), damages=())


def _stamps(path: Path, config_name: str | None) -> list[Stamp]:
    """Returns what changes when one of the files changes from which a run is read, or another one is added."""
    folder = str(path)
    names = (STATUS_FILE, EPOCHS_FILE, *(() if config_name is None else (config_name,)))
    return [_stamp(folder), *(_stamp(f"{folder}{os.sep}{name}") for name in names)]


def _stamp(path: str) -> Stamp:
    try:
        found = os.stat(path)
    except OSError:  # reading it reports the error
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def _is_settled(stamps: list[Stamp], now: int) -> bool:
    latest = max((max(stamp[:2]) for stamp in stamps if stamp is not None), default=now)
    return latest < now - SECONDS_UNTIL_SETTLED * 1e9


def _newest_config_name(path: Path) -> str | None:
    files = snapshots(path, "config")
    return files[-1].name if files else None


def _file_of(parent: Path) -> Path | None:
    folder = os.environ.get("XDG_CACHE_HOME", "")
    try:
        cache = Path(folder) if os.path.isabs(folder) else Path.home() / ".cache"
    except RuntimeError as error:  # a user without a home
        _logger.debug("There is no folder for the index of the runs: %s", error)
        return None
    key = hashlib.sha256(os.fsencode(os.path.realpath(parent))).hexdigest()
    return cache / "torchbase" / f"runs-{key[:32]}.index"


def _header_of(parent: Path, content: bytes) -> bytes:
    # marshal reads a file in half a second that JSON reads in several, and only the version of Python that wrote it.
    parts = (FORMAT, sys.version, os.path.realpath(parent), f"{zlib.crc32(content):08x}")
    return repr(parts).encode()


def _load(file: Path, parent: Path) -> dict[str, Entry]:
    try:
        header, _, content = file.read_bytes().partition(b"\n")
    except OSError as error:
        _logger.debug("The index of the runs isn't used: %s", error)
        return {}
    if header != _header_of(parent, content):
        _logger.debug("The index of the runs isn't used, since it is damaged or of another version: %s", file)
        return {}
    entries: dict[str, Entry] = marshal.loads(content)
    return entries
