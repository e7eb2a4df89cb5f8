"""The outcome of a run, and the differences between two outcomes."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from torchbase.files.bitwise import different_values
from torchbase.files.walking import files_in
from torchbase.run_directory.config_snapshot import CONFIG_FILE
from torchbase.run_directory.names import NETWORK_FILE, STATES_FOLDER
from torchbase.run_directory.record import EPOCHS_FILE, HOOKS_FILE, STATUS_FILE, read_epochs
from torchbase.session.base import TrainingBaseSession
from torchbase.session.summary import RunSummary

# All values by part and name, e.g. outcome["network"]["layers.0.weight"].
Outcome = dict[str, dict[str, Any]]

TRAINED = ("network", "optimizer", "best network", "best losses", "progress")
MAX_NAMES = 2
_NAMED_BY_TIME = ("events.out.tfevents.*", "environment*.json", "config_*.json")


def collect_outcome(session: TrainingBaseSession, summary: RunSummary, state: Mapping[str, Any] | None) -> Outcome:
    """Collects the results of a run, except files whose names contain the time.

    Args:
        session: The session, after it was called.
        summary: What it returned.
        state: The state of the checked hook, or None.

    Returns:
        The values to compare. They don't depend on the run directory, which may be removed.
    """
    return {**collect_in_memory(session, summary, state), **collect_on_disk(summary.run_dir)}


def collect_in_memory(session: TrainingBaseSession, summary: RunSummary, state: Mapping[str, Any] | None) -> Outcome:
    """Collects the results of a run that a process has in memory.

    Args:
        session: The session, after it was called.
        summary: What it returned.
        state: The state of the checked hook, or None.

    Returns:
        The values to compare.
    """
    averages = ((phase, name, value) for phase, values in summary.averages.items() for name, value in values.items())
    return {
        "network": dict(session.network.state_dict()),
        "optimizer": dict(session.optimizer.state_dict()),
        "best losses": {name: (best.loss, best.epoch) for name, best in summary.best_losses.items()},
        "progress": {"epochs done": summary.epochs_done},
        "averages": {f"{phase}/{name}": value for phase, name, value in averages},
        "the hook's state": dict(state or {}),
    }


def collect_on_disk(folder: str | Path) -> Outcome:
    """Collects the results of a run that are in its run directory, except files whose names contain the time.

    Args:
        folder: The run directory.

    Returns:
        The values to compare. They don't depend on the run directory, which may be removed.
    """
    run_dir = Path(folder)
    network = run_dir / NETWORK_FILE
    curves = read_scalars(run_dir)
    return {
        "best network": torch.load(network, map_location="cpu", weights_only=True) if network.exists() else {},
        "averages of all epochs": _averages_of_all_epochs(run_dir),
        "scalars": {tag: [value for _, value in curve] for tag, curve in curves.items()},
        "steps": {tag: [step for step, _ in curve] for tag, curve in curves.items()},
        "files": {str(path.relative_to(run_dir)): path.read_bytes() for path in _other_files(run_dir)},
    }


def read_scalars(run_dir: str | Path) -> dict[str, list[tuple[int, float]]]:
    """Reads every scalar of a run's event files.

    Args:
        run_dir: The run directory.

    Returns:
        By tag, the recorded values: (step, value) in the order of the files.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # here, since it is slow

    accumulator = EventAccumulator(str(run_dir), size_guidance={"scalars": 0}).Reload()
    return {
        tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]
    }


def find_differences(expected: Outcome, got: Outcome, parts: Iterable[str] | None = None) -> list[tuple[str, str]]:
    """Compares two outcomes bit by bit.

    Args:
        expected: The first outcome.
        got: The second outcome.
        parts: The parts to compare; all by default.

    Returns:
        The part and name of each value that differs or is missing in one of the outcomes.
    """
    missing = object()
    return [
        (part, name)
        for part in (parts if parts is not None else expected)
        for name in {**expected[part], **got[part]}
        if different_values(expected[part].get(name, missing), got[part].get(name, missing))
    ]


def select_names(outcome: Outcome, names: Outcome) -> Outcome:
    """Returns the values of an outcome whose names another outcome has, too.

    Args:
        outcome: The outcome to select from.
        names: The other outcome.
    """
    return {
        part: {name: value for name, value in values.items() if name in names[part]} for part, values in outcome.items()
    }


def format_differences(differences: Iterable[tuple[str, str]]) -> str:
    """Formats differences by their parts for a message, with at most two names per part.

    Args:
        differences: The part and name of each difference.

    Returns:
        A text such as ``network (layers.0.weight, layers.0.bias and 8 more), optimizer (state)``.
    """
    by_part: dict[str, list[str]] = {}
    for part, name in differences:
        by_part.setdefault(part, []).append(name)
    return ", ".join(f"{part} ({_format_names(names)})" if any(names) else part for part, names in by_part.items())


def _format_names(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more


def _averages_of_all_epochs(run_dir: Path) -> dict[str, list[float]]:
    averages: dict[str, list[float]] = {}
    for epoch in read_epochs(run_dir)[0]:
        for name, value in epoch.averages.items():
            averages.setdefault(f"{epoch.phase}/{name}", []).append(value)
    return averages


def _other_files(run_dir: Path) -> list[Path]:
    ignored = {CONFIG_FILE, NETWORK_FILE, STATUS_FILE, HOOKS_FILE, EPOCHS_FILE}
    return [
        path
        for path in sorted(files_in(run_dir))
        if path.relative_to(run_dir).parts[0] != STATES_FOLDER
        and path.name not in ignored
        and not path.name.startswith(".")
        and not any(path.match(pattern) for pattern in _NAMED_BY_TIME)
    ]
