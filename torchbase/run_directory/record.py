"""The record of a run in its directory, in files that can be read without torch.

``status.json`` has the progress of the run and how it ended, ``epochs.jsonl`` the averages with one line per phase and
epoch, and ``hooks.json`` the hooks in the order in which they are called.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchbase.files.durable import replace_file
from torchbase.files.json_lines import append_line, read_lines, truncate_lines
from torchbase.files.json_values import finite_or_text
from torchbase.listeners import HookOrder, Listener
from torchbase.run_directory import status as statuses
from torchbase.run_directory.parsed_files import read_parsed
from torchbase.run_directory.status import Status

STATUS_FILE = "status.json"
EPOCHS_FILE = "epochs.jsonl"
HOOKS_FILE = "hooks.json"


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
    # A line for each entry is easy to read, and written in a tenth of the time that indentation takes.
    lines = [
        f"  {json.dumps(name)}: {json.dumps(value, allow_nan=False)}"
        for name, value in statuses.to_json(status).items()
    ]
    replace_file(folder / STATUS_FILE, "{{\n{}\n}}\n".format(",\n".join(lines)).encode())


def read_status(folder: Path) -> Status | None:
    """Reads the status of a run.

    Args:
        folder: The run directory.

    Returns:
        The status; None if the run wrote none.

    Raises:
        RunDirectoryError: If the file can't be read, or isn't a status.
    """
    return read_parsed(folder / STATUS_FILE, statuses.from_json)


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
    content = json.dumps({"hooks": dict(order.classes), "events": events}, allow_nan=False)
    replace_file(folder / HOOKS_FILE, content.encode() + b"\n")


def read_hooks(folder: Path) -> HookOrder | None:
    """Reads the record of the hooks.

    Args:
        folder: The run directory.

    Returns:
        The hooks; None if the run recorded none.

    Raises:
        RunDirectoryError: If the file can't be read, or isn't a record of hooks.
    """
    return read_parsed(folder / HOOKS_FILE, _parse_hooks)


def _parse_epoch(line: Mapping[str, Any]) -> Epoch:
    averages = {name: float(value) for name, value in line["averages"].items()}
    return Epoch(int(line["epoch"]), str(line["phase"]), int(line["iterations"]), averages)


def _parse_hooks(value: Any) -> HookOrder:
    events = {
        event: tuple(Listener(str(one["hook"]), bool(one["is_wrapper"])) for one in listeners)
        for event, listeners in value["events"].items()
    }
    return HookOrder({name: str(kind) for name, kind in value["hooks"].items()}, events)
