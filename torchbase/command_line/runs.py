"""``torchbase runs``: a table of the runs in a folder."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torchbase.command_line.run_records import DEFAULT_PARENT, Listing, SavedRun, differing_paths, flatten, read_runs
from torchbase.command_line.run_table import Column, RunTable
from torchbase.command_line.terminal import (
    NOTHING,
    PIPE_WIDTH,
    STYLES,
    crop,
    format_number,
    format_value,
    make_console,
    plain,
    short_names,
    write_notes,
)
from torchbase.errors import RunDirectoryError, list_first, nearest_or_all
from torchbase.files.json_values import NOT_GIVEN, finite_or_text
from torchbase.run_directory.status import Best

MAX_VALUE_WIDTH = 24
WIDTH_BESIDE_TAGS = 32  # for the state, the epochs and a loss
NOTES_SHOWN = 10


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments.

    Args:
        parser: The parser of the command.
    """
    parser.description = (
        "Lists the runs in a folder: how they ended, their lowest losses, and how their configs differ."
    )
    parser.add_argument("parent", nargs="?", type=Path, default=DEFAULT_PARENT, metavar="DIR", help="default: runs")
    parser.add_argument(
        "--sort",
        metavar="KEY",
        help="run (the default: oldest first), state, epochs, iterations, updated, a validation set (by its lowest "
        "loss) or a config key, such as learning_rate",
    )
    parser.add_argument("--json", action="store_true", help="write JSON: a list with one object per run")
    parser.set_defaults(command=list_runs)


def list_runs(options: argparse.Namespace) -> int:
    """Lists runs.

    Args:
        options: The parsed arguments.

    Returns:
        1 if something in a run directory is damaged, else 0.
    """
    listing = read_runs(options.parent)
    configs = {run.path: flatten(run.config) for run in listing.runs}
    runs = list(listing.runs) if options.sort is None else _sorted(listing.runs, configs, options.sort)
    paths = differing_paths(list(configs.values()))
    if options.json:
        sys.stdout.write(f"{json.dumps([_as_json(run, configs[run.path], paths) for run in runs], indent=2)}\n")
    else:
        _write_table(options.parent, listing, runs, configs, paths)
    return int(any(run.damages for run in listing.runs))


def _write_table(
    parent: Path,
    listing: Listing,
    runs: Sequence[SavedRun],
    configs: Mapping[Path, Mapping[str, Any]],
    paths: list[str],
) -> None:
    console = make_console()
    notes = _notes_of(runs)
    if listing.others:
        notes.append(f"other folders: {list_first(listing.others, NOTES_SHOWN)}")
    if runs:
        max_width = PIPE_WIDTH if console.width >= PIPE_WIDTH else MAX_VALUE_WIDTH
        columns = _columns_of_runs(runs, max(console.width - WIDTH_BESIDE_TAGS, MAX_VALUE_WIDTH))
        table = RunTable([*columns, *_columns_of_configs(runs, configs, paths, max_width)], console.width)
        console.print(table)
        if table.hidden:
            notes.insert(0, f"too wide to show: {', '.join(table.hidden)} (--json shows everything)")
    else:
        console.print(f"no runs in {plain(parent)}")
    write_notes(console, notes)


def _columns_of_runs(runs: Sequence[SavedRun], max_tag_width: int) -> list[Column]:
    names = short_names(dict.fromkeys(phase for run in runs for phase in run.best_losses))
    return [
        Column("run", [crop(plain(run.tag), max_tag_width) for run in runs]),
        Column("state", [run.state for run in runs], rank=1, styles=[STYLES[run.state] for run in runs]),
        *([] if all(run.max_iterations is None for run in runs) else [_iterations_column(runs)]),
        Column("epochs", [_epochs_of(run) for run in runs], is_right=True, rank=2),
        *(
            Column(
                f"{name} loss",
                _losses([run.best_losses.get(phase) for run in runs]),
                is_right=True,
                rank=3 if position == 0 else 5,
            )
            for position, (phase, name) in enumerate(names.items())
        ),
    ]


def _columns_of_configs(
    runs: Sequence[SavedRun], configs: Mapping[Path, Mapping[str, Any]], paths: Sequence[str], max_width: int
) -> list[Column]:
    columns = []
    for path in paths:
        values = [configs[run.path].get(path, NOT_GIVEN) for run in runs]
        cells = [crop(format_value(value), max_width) for value in values]
        are_numbers = all(value is NOT_GIVEN or isinstance(value, int | float) for value in values)
        columns.append(Column(plain(_header_of(path, paths)), cells, is_right=are_numbers, rank=4))
    return columns


def _header_of(path: str, paths: Sequence[str]) -> str:
    short = path.rpartition(".")[2]
    return short if sum(other.rpartition(".")[2] == short for other in paths) == 1 else path


def _epochs_of(run: SavedRun) -> str:
    done, total = ("?" if count is None else str(count) for count in (run.epochs_done, run.max_epochs))
    return f"{done}/{total}" if run.max_iterations is None else done


def _iterations_column(runs: Sequence[SavedRun]) -> Column:
    done = ["?" if run.iterations is None else str(run.iterations) for run in runs]
    totals = ["" if run.max_iterations is None else f"/{run.max_iterations}" for run in runs]
    cells = [f"{one}{total}" for one, total in zip(done, totals, strict=True)]
    return Column("iterations", cells, is_right=True, rank=2)


def _losses(bests: Sequence[Best | None]) -> list[str]:
    digits = max((len(str(best.epoch)) for best in bests if best is not None), default=0)
    nothing = NOTHING.ljust(len(NOTHING) + len(" @") + digits)  # aligned with the numbers
    return [
        nothing if best is None else f"{format_number(best.loss)} @{str(best.epoch).ljust(digits)}" for best in bests
    ]


def _notes_of(runs: Sequence[SavedRun]) -> list[str]:
    notes = [*(f"{run.tag}: {damage}" for run in runs for damage in run.damages)]
    notes += [f"{run.tag}: {note}" for run in runs for note in run.notes]
    more = len(notes) - NOTES_SHOWN
    return notes if more <= 0 else [*notes[:NOTES_SHOWN], f"and {more} more notes (--json shows all)"]


def _sorted(runs: Sequence[SavedRun], configs: Mapping[Path, Mapping[str, Any]], key: str) -> list[SavedRun]:
    known = _values_by_key(runs, configs)
    if key not in known:
        raise RunDirectoryError(f"Can't sort the runs by {key!r}: there is no such key.{nearest_or_all(key, known)}")
    value_of = known[key]
    return sorted(runs, key=lambda run: _rank(value_of(run)))


def _values_by_key(
    runs: Sequence[SavedRun], configs: Mapping[Path, Mapping[str, Any]]
) -> dict[str, Callable[[SavedRun], object]]:
    values: dict[str, Callable[[SavedRun], object]] = {
        "run": lambda run: run.tag,
        "state": lambda run: run.state,
        "epochs": lambda run: run.epochs_done,
        "iterations": lambda run: run.iterations,
        "updated": lambda run: run.status.updated_at if run.status is not None else None,
    }
    for phase, name in short_names(dict.fromkeys(phase for run in runs for phase in run.best_losses)).items():
        values |= dict.fromkeys((name, phase), _loss_of(phase))
    paths = {path: None for config in configs.values() for path in config}
    for path in paths:
        values |= {
            name: _value_of(path, configs) for name in (_header_of(path, list(paths)), path) if name not in values
        }
    return values


def _loss_of(phase: str) -> Callable[[SavedRun], object]:
    return lambda run: run.best_losses[phase].loss if phase in run.best_losses else None


def _value_of(path: str, configs: Mapping[Path, Mapping[str, Any]]) -> Callable[[SavedRun], object]:
    return lambda run: configs[run.path].get(path)


def _rank(value: object) -> tuple[int, float, str]:
    # Numbers first, then texts, then missing values and NaN.
    if isinstance(value, int | float) and value == value:
        return 0, value, ""
    return (2, 0.0, "") if value is None or isinstance(value, float) else (1, 0.0, str(value))


def _as_json(run: SavedRun, config: Mapping[str, Any], paths: Sequence[str]) -> dict[str, Any]:
    status = run.status
    return {
        "run": run.tag,
        "path": str(run.path),
        "state": run.state,
        "reason": status.reason if status is not None else None,
        "epochs_done": run.epochs_done,
        "max_epochs": run.max_epochs,
        "max_iterations": run.max_iterations,
        "iterations": run.iterations,
        "best_losses": {
            phase: {"loss": finite_or_text(best.loss), "epoch": best.epoch} for phase, best in run.best_losses.items()
        },
        "started_at": status.started_at if status is not None else None,
        "resumed_at": status.resumed_at if status is not None else None,
        "updated_at": status.updated_at if status is not None else None,
        "differing_config": {path: config[path] for path in paths if path in config},
        "config": run.config,
        "notes": [*run.damages, *run.notes],
    }
