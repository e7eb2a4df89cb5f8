"""Reads run directories in any state: what can't be read is reported, and the rest is shown."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from torchbase.checkpoints.listing import newest_progress
from torchbase.command_line.times import format_time, parse_time
from torchbase.errors import RunDirectoryError, did_you_mean
from torchbase.files.durable import os_errors_explained
from torchbase.files.json_values import NOT_GIVEN, child_path
from torchbase.run_directory.config_snapshot import CONFIG_FILE, newest_config
from torchbase.run_directory.lock import is_locked
from torchbase.run_directory.names import STATES_FOLDER
from torchbase.run_directory.record import EPOCHS_FILE, STATUS_FILE, read_epochs, read_status
from torchbase.run_directory.status import Best, Status
from torchbase.run_directory.value_ranges import ValueRanges, extend

DEFAULT_PARENT = Path("runs")
RUNNING = "running"
KILLED, NOT_BEGUN, UNCERTAIN, UNKNOWN = "killed", "not begun", "running?", "unknown"
_TAG = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_.+")
Content = TypeVar("Content")
Line = TypeVar("Line")


@dataclass(frozen=True)
class SavedRun:
    """What a run directory records about its run.

    Attributes:
        path: The run directory.
        state: ``running``, ``finished``, ``stopped``, ``failed``, ``killed``, ``not begun``, ``running?`` or
            ``unknown``.
        status: The latest status of the run, or None if it can't be read.
        config: The config with which the run started, or was last resumed; empty if it can't be read.
        epochs_done: The number of completed epochs.
        max_epochs: The number of epochs of the run, at most.
        max_iterations: The number of training iterations of the run, at most; None if it isn't limited.
        iterations: The number of completed training iterations.
        values: The last, lowest and highest value of each average, by phase and name.
        notes: What a reader should know about the run.
        damages: What can't be read, and why.
    """

    path: Path
    state: str
    status: Status | None
    config: Mapping[str, Any]
    epochs_done: int | None
    max_epochs: int | None
    max_iterations: int | None
    iterations: int | None
    values: ValueRanges
    notes: tuple[str, ...]
    damages: tuple[str, ...]

    @property
    def tag(self) -> str:
        """The name of the run directory."""
        return self.path.name

    @property
    def best_losses(self) -> Mapping[str, Best]:
        """The lowest loss of each validation set, by the phase's name."""
        return self.status.best_losses if self.status is not None else {}

    @property
    def group(self) -> str | None:
        """The group of the run, from its config."""
        session = self.config.get("session")
        group = session.get("group") if isinstance(session, Mapping) else None
        return group if isinstance(group, str) else None

    @property
    def seconds(self) -> float | None:
        """How long the run has trained over all of its resumes; None if it isn't known."""
        if self.status is None or self.status.seconds is None:
            return None
        updated_at = parse_time(self.status.updated_at) if self.state == RUNNING else None
        since = 0.0 if updated_at is None else (datetime.now().astimezone() - updated_at).total_seconds()
        return self.status.seconds + max(0.0, since)  # the clock of another machine may be ahead

    @property
    def epoch_seconds(self) -> float | None:
        """How long the last epoch took that was trained without a break; None if it isn't known."""
        return None if self.status is None else self.status.epoch_seconds


def find_run(name: str) -> Path:
    """Finds a run directory.

    Args:
        name: Its path, or its tag if it is in the folder ``runs``.

    Returns:
        Its path.

    Raises:
        RunDirectoryError: If it doesn't exist; the message suggests similar names.
    """
    path = Path(name)
    if not path.is_dir() and path.name == name:
        path = DEFAULT_PARENT / name
    if path.is_dir():
        if is_run_directory(path):
            return path if path.name not in ("", "..") else path.resolve()  # it has to have a name
        raise RunDirectoryError(
            f"{path} isn't a run directory: it contains neither {CONFIG_FILE} nor {STATUS_FILE}. To fix, pass the "
            "folder that contains them; `torchbase runs DIR` lists the runs of a folder."
        )
    parent = path.parent
    if not parent.is_dir():
        raise RunDirectoryError(f"There is no run {name}: the folder {parent} doesn't exist. To fix, check the path.")
    with os_errors_explained("list", parent):
        tags = [entry.name for entry in os.scandir(parent) if entry.is_dir()]
    hint = did_you_mean(path.name, tags) or f" `torchbase runs {parent}` lists the existing runs."
    raise RunDirectoryError(f"There is no run {path.name!r} in {parent}.{hint}")


def read_run(path: Path) -> SavedRun:
    """Reads a run directory.

    Args:
        path: The run directory.

    Returns:
        The run, as far as it can be read.
    """
    damages: list[str] = []
    status = attempt(lambda: read_status(path), damages)
    locked = is_locked(path) if status is None or status.state == RUNNING else None
    if status is not None and locked is False:  # the run may have ended, and written so, after the first read
        status = attempt(lambda: read_status(path), damages)
    config = attempt(lambda: newest_config(path), damages)
    if config is not None and not isinstance(config, Mapping):
        damages.append(f"{path / CONFIG_FILE} isn't a config: it contains no dictionary")
        config = None
    progress = _progress_of(path, status, config or {}, damages)
    values = status.values if status is not None and status.values is not None else _values_in(path, damages)
    if status is not None:
        state = _state_of(status, locked)
    else:
        is_blank = not damages and progress[0] is None
        state = RUNNING if locked else NOT_BEGUN if is_blank else UNKNOWN
    notes = _notes_of(state, status, has_config=config is not None) if not damages else ()
    return SavedRun(path, state, status, config or {}, *progress, values, notes, tuple(damages))


def is_run_directory(path: Path) -> bool:
    """Whether a folder is the directory of a run, as far as its name and the names of its files show.

    Args:
        path: The folder.
    """
    known = (STATUS_FILE, CONFIG_FILE, STATES_FOLDER)
    # os.path.exists returns False without permission to read; the folder's name must do then.
    return any(os.path.exists(path / name) for name in known) or _TAG.fullmatch(path.name) is not None


def intact_lines(lines: tuple[list[Line], int] | None, file: Path, damages: list[str]) -> list[Line]:
    """Returns the lines that can be read, and records how many can't.

    Args:
        lines: The lines, and the number of damaged ones; None after an error that is recorded already.
        file: Their file.
        damages: The list to which a message is appended.
    """
    intact, damaged = lines if lines is not None else ([], 0)
    if damaged:
        damages.append(f"{file} is damaged: {damaged} of its lines can't be read")
    return intact


def attempt(read: Callable[[], Content], damages: list[str]) -> Content | None:
    """Calls a function that reads something, and records an error.

    Args:
        read: The function.
        damages: The list to which the error's message is appended.

    Returns:
        The return value of the function, or None after an error.
    """
    try:
        return read()
    except OSError as error:  # RunDirectoryError is a subclass
        damages.append(str(error))
        return None


def flatten(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values of a config by their paths.

    Args:
        config: The config.

    Returns:
        The values by path, such as ``session.learning_rate``; a list is one value.
    """
    values: dict[str, Any] = {}

    def add(path: str, inner: Mapping[str, Any]) -> None:
        for key, value in inner.items():
            if isinstance(value, dict) and value:
                add(_child_path(path, key), value)
            else:
                values[_child_path(path, key)] = value

    add("", config)
    return values


_child_path = lru_cache(child_path)  # the runs of a folder have the same keys


def differing_paths(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Finds the paths at which configs differ.

    Args:
        configs: The values of each config by path. An empty config is unknown and ignored.

    Returns:
        The paths with different values, in the order of the configs.
    """
    known = [config for config in configs if config]
    if not known:
        return []
    paths = dict.fromkeys(path for config in known for path in config)
    # As text: lists aren't hashable, and True is not 1.
    return [path for path in paths if len({repr(config.get(path, NOT_GIVEN)) for config in known}) > 1]


def _state_of(status: Status, locked: bool | None) -> str:
    if status.state != RUNNING or locked:
        return status.state
    return UNCERTAIN if locked is None else KILLED


def _progress_of(
    path: Path, status: Status | None, config: Mapping[str, Any], damages: list[str]
) -> tuple[int | None, int | None, int | None, int | None]:
    if status is not None:
        return status.epochs_done, status.max_epochs, status.max_iterations, status.iterations
    progress = attempt(lambda: newest_progress(path / STATES_FOLDER), damages)
    epochs_done, iterations = progress if progress is not None else (None, None)
    session = config.get("session")
    bounds = [session.get(key) if isinstance(session, Mapping) else None for key in ("num_epochs", "num_iterations")]
    max_epochs, max_iterations = (bound if isinstance(bound, int) else None for bound in bounds)
    return epochs_done, max_epochs, max_iterations, iterations


def _values_in(path: Path, damages: list[str]) -> ValueRanges:
    epochs = intact_lines(attempt(lambda: read_epochs(path), damages), path / EPOCHS_FILE, damages)
    return extend({}, epochs)


def _notes_of(state: str, status: Status | None, *, has_config: bool) -> tuple[str, ...]:
    if state == NOT_BEGUN:
        return (f"it ended before it started to train{'' if has_config else ' and before it saved its config'}",)
    if state == UNKNOWN:
        return (f"it has no {STATUS_FILE}, for example because it had no RunRecord hook",)
    if state == UNCERTAIN and status is not None:
        return (
            f"can't determine from here whether its process still runs; it did at {format_time(status.updated_at)}",
        )
    return ()
