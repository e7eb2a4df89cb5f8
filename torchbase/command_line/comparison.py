"""How runs differ, and their results: the same rows for the terminal and for a page."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from torchbase.command_line.run_details import Details
from torchbase.command_line.run_records import SavedRun, differing_paths, flatten
from torchbase.command_line.sameness import SamenessOfRuns, describe_sameness
from torchbase.command_line.terminal import NOTHING, format_number, format_value, plain, short_names
from torchbase.command_line.verdicts import Verdicts, judge
from torchbase.files.json_values import NOT_GIVEN
from torchbase.run_directory.status import Best


@dataclass(frozen=True)
class Row:
    """One row of the comparison.

    Attributes:
        name: The name of the row.
        cells: The text of each run.
        best: The positions of the runs with the best value, if it can be determined.
    """

    name: str
    cells: tuple[str, ...]
    best: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        runs: The runs.
        details: The details of each run.
        labels: A short name for each run: A, B, C, …
        parts: Rows by the title of their part.
        verdicts: Which run is better, by what.
        sameness: Whether the runs have the same bits.
    """

    runs: Sequence[SavedRun]
    details: Sequence[Details]
    labels: Sequence[str]
    parts: Mapping[str, Sequence[Row]]
    verdicts: Verdicts
    sameness: SamenessOfRuns


def compare_runs(runs: Sequence[SavedRun], details: Sequence[Details]) -> Comparison:
    """Compares runs.

    Args:
        runs: The runs.
        details: The details of each run.

    Returns:
        The comparison.
    """
    parts = {
        "run": _rows_of_runs(runs, details),
        "config differences": _rows_of_configs([flatten(run.config) for run in runs]),
        "lowest loss": _rows_of_losses(runs),
        "averages of the best epoch": _rows_of_averages(details),
    }
    labels = [_label(position) for position in range(len(runs))]
    verdicts, sameness = judge(runs, details, labels), describe_sameness(runs, labels)
    return Comparison(runs, details, labels, parts, verdicts, sameness)


def _label(position: int) -> str:
    more, letter = divmod(position, len(ascii_uppercase))
    return (_label(more - 1) if more else "") + ascii_uppercase[letter]


def _rows_of_runs(runs: Sequence[SavedRun], details: Sequence[Details]) -> list[Row]:
    def count(value: int | None) -> str:
        return NOTHING if value is None else f"{value:,}"

    return [
        Row("state", tuple(run.state for run in runs)),
        Row("epochs", tuple(count(run.epochs_done) for run in runs)),
        Row("iterations", tuple(count(run.iterations) for run in runs)),
        Row("best epoch", tuple(count(run_details.best_epoch) for run_details in details)),
    ]


def _rows_of_configs(configs: Sequence[Mapping[str, Any]]) -> list[Row]:
    return [
        Row(plain(path), tuple(format_value(config.get(path, NOT_GIVEN)) for config in configs))
        for path in differing_paths(configs)
    ]


def _rows_of_losses(runs: Sequence[SavedRun]) -> list[Row]:
    def cell(best: Best | None) -> str:
        return NOTHING if best is None else f"{format_number(best.loss)} @{best.epoch}"

    rows = []
    for phase, name in short_names(_all_keys(run.best_losses for run in runs)).items():
        bests = [run.best_losses.get(phase) for run in runs]
        losses = [best.loss for best in bests if best is not None and best.loss == best.loss]
        lowest = {n for n, best in enumerate(bests) if losses and best is not None and best.loss == min(losses)}
        rows.append(Row(name, tuple(map(cell, bests)), frozenset(lowest) if len(runs) > 1 else frozenset()))
    return rows


def _rows_of_averages(details: Sequence[Details]) -> list[Row]:
    averages = [run_details.averages_of(run_details.best_epoch) for run_details in details]
    rows = []
    for phase, short in short_names(_all_keys(averages)).items():
        names = _all_keys(of_run.get(phase, {}) for of_run in averages)
        for name in sorted(names, key=lambda name: name != "loss"):
            values = tuple(format_number(of_run.get(phase, {}).get(name)) for of_run in averages)
            rows.append(Row(plain(f"{short} {name}"), values))
    return rows


def _all_keys(mappings: Iterable[Mapping[str, object]]) -> list[str]:
    return list(dict.fromkeys(key for mapping in mappings for key in mapping))


def collect_curves(comparison: Comparison) -> dict[tuple[str, str], dict[str, list[tuple[float, float]]]]:
    """Collects the curves of all runs.

    Args:
        comparison: The comparison.

    Returns:
        By the average's name and the phase, the curves of the runs that have it, by the runs' labels.
    """
    collected: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = {}
    for name in _all_keys(details.curves for details in comparison.details):
        for phase in _all_keys(details.curves.get(name, {}) for details in comparison.details):
            collected[name, phase] = {
                label: details.curves[name][phase]
                for label, details in zip(comparison.labels, comparison.details, strict=True)
                if phase in details.curves.get(name, {})
            }
    return collected
