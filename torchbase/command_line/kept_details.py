"""What a single run kept beside its status and config: environment, votes and averages."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torchbase.command_line.curves import curves_by_name
from torchbase.durable_files import read_json
from torchbase.errors import RunDirectoryError
from torchbase.json_lines import read_lines
from torchbase.record_files import EPOCHS_FILE, Epoch, read_epochs
from torchbase.votes import VOTES_FILE


@dataclass(frozen=True)
class Details:
    """What a run kept.

    Attributes:
        environment: The environment in which it was begun; empty where there is none that can be read.
        resumes: The environments in which it went on.
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
        """The epoch whose network is kept as the best one; that of the last epoch where no set votes."""
        kept = [decision["epoch"] for decision in self.decisions if decision.get("kept") is True]
        if kept or self.decisions:
            return kept[-1] if kept else None
        return self.epochs[-1].epoch if self.epochs else None

    def averages_of(self, epoch: int | None) -> dict[str, Mapping[str, float]]:
        """Gives the averages of an epoch.

        Args:
            epoch: The epoch.

        Returns:
            The averages by phase and name.
        """
        return {one.phase: one.averages for one in self.epochs if one.epoch == epoch}


def read_details(run_dir: Path) -> Details:
    """Reads what a run kept.

    Args:
        run_dir: The run directory.

    Returns:
        What can be read of it.
    """
    damages: list[str] = []
    environments = [_read_environment(file, damages) for file in sorted(run_dir.glob("environment_*.json"))]
    decisions, damaged_decisions = read_lines(run_dir / VOTES_FILE)
    epochs, damaged_epochs = read_epochs(run_dir)
    for file, count in ((VOTES_FILE, damaged_decisions), (EPOCHS_FILE, damaged_epochs)):
        if count:
            damages.append(f"{run_dir / file} is damaged: {count} of its lines can't be read")
    begun = run_dir / "environment.json"
    return Details(
        environment=_read_environment(begun, damages) if begun.exists() else {},
        resumes=tuple(environments),
        decisions=tuple(one for one in decisions if isinstance(one.get("epoch"), int)),
        epochs=tuple(epochs),
        damages=tuple(damages),
    )


def _read_environment(file: Path, damages: list[str]) -> Mapping[str, Any]:
    try:
        value = read_json(file)
    except RunDirectoryError as error:
        damages.append(str(error))
        return {}
    if isinstance(value, Mapping):
        return value
    damages.append(f"{file} isn't what torchbase writes there: it holds no dictionary")
    return {}
