"""The runs of a folder, as many as there are."""

import os
from dataclasses import dataclass
from pathlib import Path

from torchbase.command_line.run_index import RUNS_WORTH_AN_INDEX, RunIndex
from torchbase.command_line.run_records import SavedRun, is_run_directory, read_run
from torchbase.errors import RunDirectoryError
from torchbase.files.durable import os_errors_explained
from torchbase.run_directory.config_snapshot import CONFIG_FILE
from torchbase.run_directory.record import STATUS_FILE


@dataclass(frozen=True)
class Listing:
    """The content of a folder of runs.

    Attributes:
        runs: The runs, in the order of their tags, so in the order in which they started.
        others: The names of the other folders.
        notes: What a reader should know about the listing.
    """

    runs: tuple[SavedRun, ...]
    others: tuple[str, ...]
    notes: tuple[str, ...] = ()


def read_runs(parent: Path) -> Listing:
    """Reads all runs of a folder.

    Args:
        parent: The folder that contains the run directories.

    Returns:
        The runs.

    Raises:
        RunDirectoryError: If the folder can't be listed, or is a run directory itself.
    """
    with os_errors_explained("list", parent), os.scandir(parent) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())
    if os.path.exists(parent / CONFIG_FILE) or os.path.exists(parent / STATUS_FILE):
        raise RunDirectoryError(
            f"{parent} is a run directory, but a folder of run directories is expected. To fix, pass its parent "
            f"folder, or show the run: torchbase show {parent}"
        )
    index = RunIndex(parent) if len(names) >= RUNS_WORTH_AN_INDEX else None
    runs = [run for name in names if (run := _read_if_run(parent, name, index)) is not None]
    note = None if index is None else index.save()
    others = sorted({*names}.difference(run.tag for run in runs))
    return Listing(tuple(runs), tuple(others), () if note is None else (note,))


def _read_if_run(parent: Path, name: str, index: RunIndex | None) -> SavedRun | None:
    known = None if index is None else index.find(name)
    if known is not None or not is_run_directory(parent / name):
        return known
    return read_run(parent / name) if index is None else index.read(name)
