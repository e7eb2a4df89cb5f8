"""What a run directory contains besides its status and config: environment, votes and averages."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torchbase.command_line.curves import curves_by_name
from torchbase.command_line.run_records import attempt, intact_lines
from torchbase.engine.votes import VOTES_FILE, best_decision
from torchbase.files.durable import read_json
from torchbase.files.json_lines import read_lines
from torchbase.run_directory.config_snapshot import snapshots
from torchbase.run_directory.record import EPOCHS_FILE, Epoch, read_epochs


@dataclass(frozen=True)
class Details:
    """The environment, the votes and the averages of a run.

    Attributes:
        environment: The environment in which the run started; empty if it can't be read.
        resumes: The environments in which the run was resumed.
        decisions: The decisions on the best network.
        epochs: The averages, in the order in which they were measured.
        damages: What can't be read, and why.
    """

    environment: Mapping[str, Any]
    resumes: tuple[Mapping[str, Any], ...]
    decisions: tuple[Mapping[str, Any], ...]
    epochs: tuple[Epoch, ...]
    damages: tuple[str, ...]

    @cached_property
    def curves(self) -> dict[str, dict[str, list[tuple[float, float]]]]:
        """The averages by name and phase."""
        return curves_by_name(self.epochs)

    @property
    def best_epoch(self) -> int | None:
        """The epoch whose network is saved as the best. Without votes, the last epoch."""
        if self.decisions:
            best = best_decision(self.decisions)
            return None if best is None else best["epoch"]
        return self.epochs[-1].epoch if self.epochs else None

    def averages_of(self, epoch: int | None) -> dict[str, Mapping[str, float]]:
        """Returns the averages of an epoch.

        Args:
            epoch: The epoch.

        Returns:
            The averages by phase and name.
        """
        return {record.phase: record.averages for record in self.epochs if record.epoch == epoch}


def read_details(run_dir: Path) -> Details:
    """Reads the details of a run.

    Args:
        run_dir: The run directory.

    Returns:
        The details that can be read.
    """
    damages: list[str] = []
    environments = {file.name: _read_environment(file, damages) for file in snapshots(run_dir, "environment")}
    first = environments.pop("environment.json", {})
    decisions = intact_lines(attempt(lambda: read_lines(run_dir / VOTES_FILE), damages), run_dir / VOTES_FILE, damages)
    epochs = intact_lines(attempt(lambda: read_epochs(run_dir), damages), run_dir / EPOCHS_FILE, damages)
    return Details(
        environment=first,
        resumes=tuple(environments.values()),
        decisions=tuple(decision for decision in decisions if isinstance(decision.get("epoch"), int)),
        epochs=tuple(epochs),
        damages=tuple(damages),
    )


def _read_environment(file: Path, damages: list[str]) -> Mapping[str, Any]:
    value = attempt(lambda: read_json(file), damages)
    if value is None or isinstance(value, Mapping):
        return value or {}
    damages.append(f"{file} isn't an environment: it contains no dictionary")
    return {}
