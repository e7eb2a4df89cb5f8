"""What a file says of the run whose network it has."""

import logging
from pathlib import Path
from typing import Any, NamedTuple

from torchbase.checkpoints.listing import newest_progress
from torchbase.engine.votes import VOTES_FILE, best_decision
from torchbase.errors import RunDirectoryError
from torchbase.files.durable import read_json
from torchbase.files.json_lines import read_lines
from torchbase.files.json_values import finite_or_text
from torchbase.run_directory.config_snapshot import CONFIG_FILE, newest_config, snapshots
from torchbase.run_directory.environment import describe_environment
from torchbase.run_directory.names import STATES_FOLDER
from torchbase.run_directory.record import Epoch, read_epochs, read_status
from torchbase.run_directory.status import Status
from torchbase.session.saved_network import ReadNetwork

_logger = logging.getLogger("torchbase")


class _Moment(NamedTuple):
    epoch: int | None
    iterations: int | None


def describe(run_dir: Path, network: str, read: ReadNetwork) -> dict[str, Any]:
    """Describes a run and one of its networks.

    Args:
        run_dir: The path of the run directory.
        network: ``"best"``, ``"last"``, or the name of a file that `KeepBest` lists.
        read: What was read of it.

    Returns:
        Values for JSON; see `torchbase.export.exporting.ExportedNetwork`.

    Raises:
        RunDirectoryError: If it isn't the directory of a run, or its config or environment is damaged.
    """
    environments = snapshots(run_dir, "environment")
    environment = read_json(environments[-1]) if environments else {}
    status, epochs = read_status(run_dir), read_epochs(run_dir)[0]
    is_known = read.iterations is not None
    moment = _Moment(read.epoch, read.iterations) if is_known else _moment_of_best(run_dir, epochs, status)
    best_losses = status.best_losses if status is not None else {}
    return {
        "run": run_dir.name,
        "session": (environment.get("session") or {}).get("class"),
        "network": network,
        "epoch": moment.epoch,
        "iterations": moment.iterations,
        "config": config_of(run_dir),
        "averages": _averages_at(moment, epochs),
        "best_losses": {
            phase: {"loss": finite_or_text(best.loss), "epoch": best.epoch} for phase, best in best_losses.items()
        },
        "trained_with": _versions_in(environment),
        "exported_with": _versions_in(describe_environment()),
    }


def config_of(run_dir: Path) -> dict[str, Any]:
    """Reads the config of a run.

    Args:
        run_dir: The path of the run directory.

    Returns:
        The config in JSON form.

    Raises:
        RunDirectoryError: If it isn't the directory of a run.
    """
    config = newest_config(run_dir)
    if config is None:
        raise RunDirectoryError(
            f"{run_dir} isn't the directory of a run: it has no {CONFIG_FILE}. To fix, pass the folder that has it."
        )
    return config


def _moment_of_best(run_dir: Path, epochs: list[Epoch], status: Status | None) -> _Moment:
    decisions, _ = read_lines(run_dir / VOTES_FILE)
    decision = best_decision(decisions)
    if decision is not None:
        moment = _Moment(decision["epoch"], decision["iteration"])
    else:  # without votes, the network of the last epoch is saved
        moment = _Moment(epochs[-1].epoch, epochs[-1].iterations) if epochs else _Moment(None, None)
    saved = newest_progress(run_dir / STATES_FOLDER)
    # The network is on disk before a later checkpoint, and before a run says that it has ended.
    has_ended = status is not None and status.state != "running"
    if not has_ended and (saved is None or moment.iterations is None or saved[1] < moment.iterations):
        _logger.warning(
            "The run %s is training, or was killed before its next checkpoint. So it isn't known whether its best "
            "network is that of the last decision or an earlier one, and the file names no epoch.",
            run_dir,
        )
        return _Moment(None, None)
    return moment


def _averages_at(moment: _Moment, epochs: list[Epoch]) -> dict[str, dict[str, Any]]:
    """Returns the averages of the epoch, as they were then: a set that runs within epochs has several."""
    return {
        record.phase: {name: finite_or_text(value) for name, value in record.averages.items()}
        for record in epochs
        if record.epoch == moment.epoch and moment.iterations is not None and record.iterations <= moment.iterations
    }


def _versions_in(environment: dict[str, Any]) -> dict[str, Any]:
    return {"python": environment.get("python"), **environment.get("packages", {})}
