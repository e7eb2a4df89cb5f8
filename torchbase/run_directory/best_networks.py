"""The list of the best networks of a run, ``best_networks/networks.json``. It can be read without torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchbase.files.durable import write_json
from torchbase.files.json_values import finite_or_text
from torchbase.run_directory.names import BEST_NETWORKS_FOLDER
from torchbase.run_directory.parsed_files import read_parsed

LIST_FILE = "networks.json"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class SavedBest:
    """One of the best networks of a run.

    Attributes:
        file: The name of its file in the run directory.
        epoch: The epoch whose value it has; the first is 1.
        iteration: The number of training iterations that were finished then.
        value: The value by which it was chosen.
    """

    file: str
    epoch: int
    iteration: int
    value: float


@dataclass(frozen=True)
class BestNetworks:
    """The best networks of a run.

    Attributes:
        monitor: The name of the value by which they were chosen.
        phase: The phase of the value.
        mode: Whether lower (``"min"``) or higher (``"max"``) is better.
        networks: The networks, the best first.
    """

    monitor: str
    phase: str
    mode: str
    networks: tuple[SavedBest, ...]


def write_best_networks(folder: Path, best: BestNetworks) -> None:
    """Replaces the list, durably.

    Args:
        folder: The run directory, with the folder ``best_networks``.
        best: The networks, whose files are on the disk.

    Raises:
        RunDirectoryError: If the operating system reports an error.
    """
    networks = [{**vars(one), "value": finite_or_text(one.value)} for one in best.networks]
    content = {"format_version": FORMAT_VERSION, **vars(best), "networks": networks}
    write_json(folder / BEST_NETWORKS_FOLDER / LIST_FILE, content)


def read_best_networks(folder: Path) -> BestNetworks | None:
    """Reads which of the best networks a run has saved.

    Args:
        folder: The run directory.

    Returns:
        The networks; None if the run wrote no list.

    Raises:
        RunDirectoryError: If the file can't be read, or isn't such a list.
    """
    return read_parsed(folder / BEST_NETWORKS_FOLDER / LIST_FILE, _parse)


def _parse(value: Any) -> BestNetworks:
    if value["format_version"] != FORMAT_VERSION:
        raise ValueError(f"it has format {value['format_version']}, and this version of torchbase reads format 1")
    return BestNetworks(
        monitor=str(value["monitor"]),
        phase=str(value["phase"]),
        mode=str(value["mode"]),
        networks=parse_networks(value["networks"]),
    )


def parse_networks(values: Sequence[Any]) -> tuple[SavedBest, ...]:
    """Parses the entries of the list.

    Args:
        values: Dictionaries with the attributes of a `SavedBest`.

    Raises:
        KeyError, TypeError, ValueError: If one isn't such a dictionary.
    """
    return tuple(
        SavedBest(str(one["file"]), int(one["epoch"]), int(one["iteration"]), float(one["value"])) for one in values
    )
