"""The checkpoints of a run by the names of their folders alone, and whether a run has results.

Nothing here needs torch, which is slow to import.
"""

import re
from pathlib import Path

from torchbase.files import durable
from torchbase.run_directory.names import (
    BAD_MINI_BATCHES_FOLDER,
    BEST_NETWORKS_FOLDER,
    NETWORK_FILE,
    PROFILE_FOLDER,
    STATES_FOLDER,
)

_FOLDERS_OF_RESULTS = (BAD_MINI_BATCHES_FOLDER, BEST_NETWORKS_FOLDER, PROFILE_FOLDER)
_NAME = re.compile(r"checkpoint-epoch-([0-9]{6,})-iteration-([0-9]{10,})")


def name_of(epoch: int, iteration: int) -> str:
    """Returns the name of the folder of a checkpoint.

    Args:
        epoch: Number of completed epochs.
        iteration: Number of completed training iterations of the whole run.
    """
    return f"checkpoint-epoch-{epoch:06d}-iteration-{iteration:010d}"


def is_name(name: str) -> bool:
    """Whether a folder has the name of a checkpoint.

    Args:
        name: The name.
    """
    return _NAME.fullmatch(name) is not None


def list_checkpoints(folder: Path) -> list[Path]:
    """Lists the checkpoints of a folder by their names alone, the most advanced first.

    Args:
        folder: The folder of the run's checkpoints. It may be missing.

    Returns:
        The folders of the checkpoints, sorted by iteration, then by epoch.
    """
    progress = _progress_of_all(folder)
    return sorted(progress, key=lambda path: progress[path], reverse=True)


def has_results(run_directory: Path) -> bool:
    """Whether a run has results on disk, to inspect or to resume from.

    Args:
        run_directory: The run directory.

    Returns:
        Whether it has a checkpoint, by its name alone, one of the best networks, or files that a message names: a
        mini-batch whose loss was NaN, or a profile.
    """
    return (
        (run_directory / NETWORK_FILE).exists()
        or bool(list_checkpoints(run_directory / STATES_FOLDER))
        or any(_is_filled(run_directory / name) for name in _FOLDERS_OF_RESULTS)
    )


def iterations_of(path: Path) -> int:
    """Returns the number of completed training iterations of a checkpoint, by its name alone.

    Args:
        path: The folder of the checkpoint, one of `list_checkpoints`.

    Raises:
        ValueError: If it doesn't have the name of a checkpoint.
    """
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise ValueError(f"{path} doesn't have the name of a checkpoint.")
    return int(match[2])


def newest_progress(folder: Path) -> tuple[int, int] | None:
    """Returns the progress of the most advanced checkpoint, by its name alone.

    Args:
        folder: The folder of the run's checkpoints. It may be missing.

    Returns:
        The numbers of completed epochs and training iterations; None without a checkpoint.
    """
    progress = _progress_of_all(folder).values()
    if not progress:
        return None
    iterations, epochs = max(progress)
    return epochs, iterations


def _is_filled(folder: Path) -> bool:
    with durable.os_errors_explained("list", folder):
        return folder.is_dir() and any(folder.iterdir())


def _progress_of_all(folder: Path) -> dict[Path, tuple[int, int]]:
    with durable.os_errors_explained("list", folder):
        if not folder.exists():
            return {}
        found = {path: _NAME.fullmatch(path.name) for path in folder.iterdir() if path.is_dir()}
    return {path: (int(match[2]), int(match[1])) for path, match in found.items() if match}
