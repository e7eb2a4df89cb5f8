"""The status of a run: its progress, its values so far, and how it ended."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from torchbase.files.json_values import finite_or_text
from torchbase.run_directory import value_ranges
from torchbase.run_directory.value_ranges import ValueRanges

if TYPE_CHECKING:  # the command reads the status without torch
    from torchbase.metrics.directions import Mode

FORMAT_VERSION = 1
State = Literal["running", "finished", "stopped", "failed"]
STATES: tuple[str, ...] = get_args(State)
DIRECTIONS = ("min", "max")


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
        seconds: How long the run has trained, in seconds, over all of its resumes and without the time between them;
            None if it isn't known.
        epoch_seconds: How long the last epoch took that was trained without a break, validation included, in seconds;
            None if there is none.
        values: The last, lowest and highest value of each average; None if they aren't recorded.
        directions: Whether lower (``"min"``) or higher (``"max"``) is better, by the name of the value, where it is
            known.
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
    seconds: float | None = None
    epoch_seconds: float | None = None
    values: ValueRanges | None = None
    directions: Mapping[str, "Mode"] = field(default_factory=dict)


def to_json(status: Status) -> dict[str, Any]:
    """Converts a status to JSON form.

    Args:
        status: The status.
    """
    return {
        "format_version": FORMAT_VERSION,
        **vars(status),
        "best_losses": {
            phase: {"loss": finite_or_text(best.loss), "epoch": best.epoch}
            for phase, best in status.best_losses.items()
        },
        "values": None if status.values is None else value_ranges.to_json(status.values),
        "directions": dict(status.directions),
    }


def from_json(value: Any) -> Status:
    """Converts a status from JSON form.

    Args:
        value: The return value of `to_json`, from a file. Entries that earlier versions didn't write may be missing.

    Returns:
        The status.

    Raises:
        Exception: KeyError, TypeError, ValueError or AttributeError, if the value has another form.
    """
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
        seconds=None if value.get("seconds") is None else float(value["seconds"]),
        epoch_seconds=None if value.get("epoch_seconds") is None else float(value["epoch_seconds"]),
        values=None if value.get("values") is None else value_ranges.from_json(value["values"]),
        directions=_parse_directions(value.get("directions", {})),
    )


def _parse_directions(value: Any) -> dict[str, "Mode"]:
    unknown = [direction for direction in value.values() if direction not in DIRECTIONS]
    if unknown:
        raise ValueError(f"the direction {unknown[0]!r} is not one of {', '.join(DIRECTIONS)}")
    return dict(value)
