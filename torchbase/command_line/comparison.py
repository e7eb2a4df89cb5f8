"""What differs between runs, beside what came of it: the same rows for the terminal and for a page."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from torchbase.command_line.run_details import Details
from torchbase.command_line.run_records import SavedRun, differing_paths, flattened
from torchbase.command_line.terminal import NOTHING, config_value, number, plain, short_names
from torchbase.files.json_values import NOT_GIVEN
from torchbase.run_directory.record import Best


@dataclass(frozen=True)
class Row:
    """One thing of all runs.

    Attributes:
        name: What it is.
        cells: Its text for each run.
        best: The positions of the runs that did best in it, where that can be told.
    """

    name: str
    cells: tuple[str, ...]
    best: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        runs: The runs.
        details: What each of them kept.
        labels: A short name for each: A, B, C, …
        parts: Rows by the title of their part.
    """

    runs: Sequence[SavedRun]
    details: Sequence[Details]
    labels: Sequence[str]
    parts: Mapping[str, Sequence[Row]]


def compare_runs(runs: Sequence[SavedRun], details: Sequence[Details]) -> Comparison:
    """Puts runs side by side.

    Args:
        runs: The runs.
        details: What each of them kept.

    Returns:
        The comparison.
    """
    parts = {
        "run": _rows_of_runs(runs, details),
        "config, where it differs": _rows_of_configs([flattened(run.config) for run in runs]),
        "lowest loss": _rows_of_losses(runs),
        "averages of the best epoch": _rows_of_averages(details),
    }
    labels = [_label(position) for position in range(len(runs))]
    return Comparison(runs, details, labels, parts)


def _label(position: int) -> str:
    beyond, letter = divmod(position, len(ascii_uppercase))
    return (_label(beyond - 1) if beyond else "") + ascii_uppercase[letter]


def _rows_of_runs(runs: Sequence[SavedRun], details: Sequence[Details]) -> list[Row]:
    def count(value: int | None) -> str:
        return NOTHING if value is None else f"{value:,}"

    return [
        Row("state", tuple(run.state for run in runs)),
        Row("epochs", tuple(count(run.epochs_done) for run in runs)),
        Row("iterations", tuple(count(run.iterations) for run in runs)),
        Row("best epoch", tuple(count(one.best_epoch) for one in details)),
    ]


def _rows_of_configs(configs: Sequence[Mapping[str, Any]]) -> list[Row]:
    return [
        Row(plain(path), tuple(config_value(config.get(path, NOT_GIVEN)) for config in configs))
        for path in differing_paths(configs)
    ]


def _rows_of_losses(runs: Sequence[SavedRun]) -> list[Row]:
    def cell(best: Best | None) -> str:
        return NOTHING if best is None else f"{number(best.loss)} @{best.epoch}"

    rows = []
    for phase, name in short_names(_all(run.best_losses for run in runs)).items():
        bests = [run.best_losses.get(phase) for run in runs]
        losses = [best.loss for best in bests if best is not None and best.loss == best.loss]
        lowest = {n for n, best in enumerate(bests) if losses and best is not None and best.loss == min(losses)}
        rows.append(Row(name, tuple(map(cell, bests)), frozenset(lowest) if len(runs) > 1 else frozenset()))
    return rows


def _rows_of_averages(details: Sequence[Details]) -> list[Row]:
    averages = [one.averages_of(one.best_epoch) for one in details]
    rows = []
    for phase, short in short_names(_all(averages)).items():
        for name in sorted(_all(one.get(phase, {}) for one in averages), key=lambda name: name != "loss"):
            values = tuple(number(one.get(phase, {}).get(name)) for one in averages)
            rows.append(Row(plain(f"{short} {name}"), values))
    return rows


def _all(mappings: Iterable[Mapping[str, object]]) -> list[str]:
    return list(dict.fromkeys(key for one in mappings for key in one))


def curves_of_all(comparison: Comparison) -> dict[tuple[str, str], dict[str, list[tuple[float, float]]]]:
    """Gathers the curves of all runs.

    Args:
        comparison: The comparison.

    Returns:
        By the average's name and the phase, the curve of each run that has it, by its label.
    """
    gathered: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = {}
    for name in _all(one.curves for one in comparison.details):
        for phase in _all(one.curves.get(name, {}) for one in comparison.details):
            gathered[name, phase] = {
                label: one.curves[name][phase]
                for label, one in zip(comparison.labels, comparison.details, strict=True)
                if phase in one.curves.get(name, {})
            }
    return gathered
