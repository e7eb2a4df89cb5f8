"""The record of a run in its directory, in files that can be read without torch.

``status.json`` has the progress of the run and how it ended, ``epochs.jsonl`` the averages with one line per phase and
epoch, and ``hooks.json`` the hooks in the order in which they are called.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from torchbase.errors import RunDirectoryError
from torchbase.files.durable import read_json, replace_file
from torchbase.files.json_lines import append_line, read_lines, truncate_lines
from torchbase.files.json_values import finite_or_text
from torchbase.listeners import HookOrder, Listener

STATUS_FILE = "status.json"
EPOCHS_FILE = "epochs.jsonl"
HOOKS_FILE = "hooks.json"
FORMAT_VERSION = 1

State = Literal["running", "finished", "stopped", "failed"]
STATES: tuple[str, ...] = get_args(State)
Content = TypeVar("Content")


@dataclass(frozen=True)
class Best:
    """The lowest loss of a validation set.

    Attributes:
        loss: The average over the set's samples.
        epoch: The epoch after which it was measured; the first is 1.
    """

    loss: float
    epoch: int


@dataclass(frozen=True)
class Status:
    """The progress of a run, and how it ended.

    Attributes:
        state: ``"running"``, also for a run whose process was killed; ``"finished"``, ``"stopped"`` or ``"failed"``.
        reason: Why the run was stopped, or the error that ended it, in one line; None if there is no reason.
        epochs_done: Number of completed epochs.
        max_epochs: Number of epochs of the run, at most.
        iterations: Number of completed training iterations.
        best_losses: The lowest loss of each validation set, by the phase's name.
        started_at: When the run was first started, in ISO 8601 with the time zone.
        resumed_at: When it was last resumed; None if it never was.
        updated_at: When this was written.
        process_id: The process that wrote it.
        host: The machine of that process.
        order: Orders the runs of a folder by when they were begun, even if the clock was set back; see
            `torchbase.run_directory.newest.next_order`. It is 0 if it isn't known.
        tag: The name of the run directory when this was written. A copy of the directory has another name.
        max_iterations: Number of training iterations of the run, at most; None if it isn't limited.
    """

    state: State
    reason: str | None
    epochs_done: int
    max_epochs: int
    iterations: int
    best_losses: Mapping[str, Best]
    started_at: str
    resumed_at: str | None
    updated_at: str
    process_id: int
    host: str
    order: int = 0
    tag: str = ""
    max_iterations: int | None = None


@dataclass(frozen=True)
class Epoch:
    """The averages of one phase.

    Attributes:
        epoch: The epoch; the first is 1. A validation set that runs within epochs has several averages per epoch.
        phase: The name of the phase.
        iterations: Number of completed training iterations of the whole run.
        averages: The averages by name.
    """

    epoch: int
    phase: str
    iterations: int
    averages: Mapping[str, float]


def write_status(folder: Path, status: Status) -> None:
    """Replaces the status of a run.

    Args:
        folder: The run directory.
        status: The status.

    Raises:
        RunDirectoryError: If the operating system reports an error.
    """
    best_losses = {
        phase: {"loss": finite_or_text(best.loss), "epoch": best.epoch} for phase, best in status.best_losses.items()
    }
    _replace(folder / STATUS_FILE, {"format_version": FORMAT_VERSION, **vars(status), "best_losses": best_losses})


def read_status(folder: Path) -> Status | None:
    """Reads the status of a run.

    Args:
        folder: The run directory.

    Returns:
        The status; None if the run wrote none.

    Raises:
        RunDirectoryError: If the file can't be read, or isn't a status.
    """
    return _read(folder / STATUS_FILE, _parse_status)


def append_epoch(folder: Path, epoch: Epoch) -> None:
    """Appends the averages of a phase.

    Args:
        folder: The run directory.
        epoch: The averages.

    Raises:
        RunDirectoryError: If the operating system reports an error.
    """
    averages = {name: finite_or_text(value) for name, value in epoch.averages.items()}
    append_line(folder / EPOCHS_FILE, {**vars(epoch), "averages": averages})


def truncate_epochs(folder: Path, count: int) -> None:
    """Removes the averages that the resumed run computes again.

    Args:
        folder: The run directory.
        count: The number of averages to keep.

    Raises:
        RunDirectoryError: If the operating system reports an error.
    """
    truncate_lines(folder / EPOCHS_FILE, count)


def read_epochs(folder: Path) -> tuple[list[Epoch], int]:
    """Reads the averages of a run.

    Args:
        folder: The run directory.

    Returns:
        The averages in the order in which they were measured, and the number of damaged lines.

    Raises:
        RunDirectoryError: If the operating system reports an error.
    """
    lines, damaged = read_lines(folder / EPOCHS_FILE)
    epochs = []
    for line in lines:
        try:
            epochs.append(_parse_epoch(line))
        except (KeyError, TypeError, ValueError, AttributeError):
            damaged += 1
    return epochs, damaged


def write_hooks(folder: Path, order: HookOrder) -> None:
    """Replaces the record of the hooks.

    Args:
        folder: The run directory.
        order: The hooks.

    Raises:
        RunDirectoryError: If the operating system reports an error.
    """
    events = {
        event: [{"hook": one.name, "is_wrapper": one.is_wrapper} for one in listeners]
        for event, listeners in order.events.items()
    }
    # Without indentation, which the encoder of Python writes in ten times the time.
    _replace(folder / HOOKS_FILE, {"hooks": dict(order.classes), "events": events}, indent=None)


def read_hooks(folder: Path) -> HookOrder | None:
    """Reads the record of the hooks.

    Args:
        folder: The run directory.

    Returns:
        The hooks; None if the run recorded none.

    Raises:
        RunDirectoryError: If the file can't be read, or isn't a record of hooks.
    """
    return _read(folder / HOOKS_FILE, _parse_hooks)


def _replace(file: Path, value: Mapping[str, Any], indent: int | None = 2) -> None:
    replace_file(file, json.dumps(value, indent=indent, allow_nan=False).encode() + b"\n")


def _read(file: Path, parse: Callable[[Any], Content]) -> Content | None:
    try:
        value = read_json(file)
    except RunDirectoryError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
    try:
        return parse(value)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunDirectoryError(
            f"{file} isn't what torchbase writes there: {type(error).__name__}: {error}. "
            "To fix, restore it, or remove it."
        ) from error


def _parse_status(value: Any) -> Status:
    if value["format_version"] != FORMAT_VERSION:
        raise ValueError(f"it has format {value['format_version']}, and this version of torchbase reads format 1")
    if value["state"] not in STATES:
        raise ValueError(f"the state {value['state']!r} is not one of {', '.join(STATES)}")
    return Status(
        state=value["state"],
        reason=None if value["reason"] is None else str(value["reason"]),
        epochs_done=int(value["epochs_done"]),
        max_epochs=int(value["max_epochs"]),
        iterations=int(value["iterations"]),
        best_losses={
            phase: Best(float(best["loss"]), int(best["epoch"])) for phase, best in value["best_losses"].items()
        },
        started_at=str(value["started_at"]),
        resumed_at=None if value["resumed_at"] is None else str(value["resumed_at"]),
        updated_at=str(value["updated_at"]),
        process_id=int(value["process_id"]),
        host=str(value["host"]),
        order=int(value.get("order", 0)),
        tag=str(value.get("tag", "")),
        max_iterations=None if value.get("max_iterations") is None else int(value["max_iterations"]),
    )


def _parse_epoch(line: Mapping[str, Any]) -> Epoch:
    averages = {name: float(value) for name, value in line["averages"].items()}
    return Epoch(int(line["epoch"]), str(line["phase"]), int(line["iterations"]), averages)


def _parse_hooks(value: Any) -> HookOrder:
    events = {
        event: tuple(Listener(str(one["hook"]), bool(one["is_wrapper"])) for one in listeners)
        for event, listeners in value["events"].items()
    }
    return HookOrder({name: str(kind) for name, kind in value["hooks"].items()}, events)
