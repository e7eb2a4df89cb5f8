"""``torchbase runs``: the runs of a folder in a table."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torchbase.command_line.run_records import DEFAULT_PARENT, Listing, SavedRun, differing_paths, flattened, read_runs
from torchbase.command_line.run_table import Column, RunTable
from torchbase.command_line.terminal import (
    NOTHING,
    STYLES,
    WIDTH_OF_A_PIPE,
    config_value,
    cropped,
    make_console,
    number,
    plain,
    short_names,
    write_notes,
)
from torchbase.errors import RunDirectoryError, did_you_mean
from torchbase.files.json_values import NOT_GIVEN, finite_or_text
from torchbase.run_directory.record import Best

WIDEST_VALUE = 24
ROOM_BESIDE_TAGS = 32  # for the state, the epochs and a loss
NOTES_SHOWN = 10


def add(parser: argparse.ArgumentParser) -> None:
    """Describes the command.

    Args:
        parser: What parses its arguments.
    """
    parser.description = (
        "Lists the runs of a folder: how they ended, their lowest losses, and how their configs differ."
    )
    parser.add_argument("parent", nargs="?", type=Path, default=DEFAULT_PARENT, metavar="DIR", help="default: runs")
    parser.add_argument(
        "--sort",
        metavar="KEY",
        help="run (the default: the oldest first), state, epochs, iterations, updated, a validation set (by its lowest "
        "loss) or a key of the config, such as learning_rate",
    )
    parser.add_argument("--json", action="store_true", help="write JSON: a list with an object for each run")
    parser.set_defaults(command=list_runs)


def list_runs(given: argparse.Namespace) -> int:
    """Lists runs.

    Args:
        given: The arguments.

    Returns:
        1 if something in a run directory is damaged, else 0.
    """
    listing = read_runs(given.parent)
    configs = {run.path: flattened(run.config) for run in listing.runs}
    runs = list(listing.runs) if given.sort is None else _sorted(listing.runs, configs, given.sort)
    paths = differing_paths(list(configs.values()))
    if given.json:
        sys.stdout.write(f"{json.dumps([_as_json(run, configs[run.path], paths) for run in runs], indent=2)}\n")
    else:
        _write_table(given.parent, listing, runs, configs, paths)
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
        notes.append(f"no runs: {', '.join(listing.others[:NOTES_SHOWN])}{', …' * (len(listing.others) > NOTES_SHOWN)}")
    if runs:
        widest = WIDTH_OF_A_PIPE if console.width >= WIDTH_OF_A_PIPE else WIDEST_VALUE
        columns = _columns_of_runs(runs, max(console.width - ROOM_BESIDE_TAGS, WIDEST_VALUE))
        table = RunTable([*columns, *_columns_of_configs(runs, configs, paths, widest)], console.width)
        console.print(table)
        if table.left_out:
            notes.insert(0, f"too wide to be shown: {', '.join(table.left_out)} (--json has everything)")
    else:
        console.print(f"no runs in {plain(parent)}")
    write_notes(console, notes)


def _columns_of_runs(runs: Sequence[SavedRun], widest_tag: int) -> list[Column]:
    names = short_names(dict.fromkeys(phase for run in runs for phase in run.best_losses))
    return [
        Column("run", [cropped(plain(run.tag), widest_tag) for run in runs]),
        Column("state", [run.state for run in runs], rank=1, styles=[STYLES[run.state] for run in runs]),
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
    runs: Sequence[SavedRun], configs: Mapping[Path, Mapping[str, Any]], paths: Sequence[str], widest: int
) -> list[Column]:
    columns = []
    for path in paths:
        values = [configs[run.path].get(path, NOT_GIVEN) for run in runs]
        cells = [cropped(config_value(value), widest) for value in values]
        are_numbers = all(value is NOT_GIVEN or isinstance(value, int | float) for value in values)
        columns.append(Column(plain(_head_of(path, paths)), cells, is_right=are_numbers, rank=4))
    return columns


def _head_of(path: str, paths: Sequence[str]) -> str:
    short = path.rpartition(".")[2]
    return short if sum(other.rpartition(".")[2] == short for other in paths) == 1 else path


def _epochs_of(run: SavedRun) -> str:
    done, of = ("?" if count is None else str(count) for count in (run.epochs_done, run.max_epochs))
    return f"{done}/{of}"


def _losses(bests: Sequence[Best | None]) -> list[str]:
    digits = max((len(str(best.epoch)) for best in bests if best is not None), default=0)
    nothing = NOTHING.ljust(len(NOTHING) + len(" @") + digits)  # below the numbers
    return [nothing if one is None else f"{number(one.loss)} @{str(one.epoch).ljust(digits)}" for one in bests]


def _notes_of(runs: Sequence[SavedRun]) -> list[str]:
    notes = [*(f"{run.tag}: {damage}" for run in runs for damage in run.damages)]
    notes += [f"{run.tag}: {note}" for run in runs for note in run.notes]
    more = len(notes) - NOTES_SHOWN
    return notes if more <= 0 else [*notes[:NOTES_SHOWN], f"and {more} notes more (--json has all)"]


def _sorted(runs: Sequence[SavedRun], configs: Mapping[Path, Mapping[str, Any]], key: str) -> list[SavedRun]:
    known = _values_by_key(runs, configs)
    if key not in known:
        hint = did_you_mean(key, known) or f" There are: {', '.join(known)}."
        raise RunDirectoryError(f"The runs can't be sorted by {key!r}: there is no such key.{hint}")
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
        values |= {name: _value_of(path, configs) for name in (_head_of(path, list(paths)), path) if name not in values}
    return values


def _loss_of(phase: str) -> Callable[[SavedRun], object]:
    return lambda run: run.best_losses[phase].loss if phase in run.best_losses else None


def _value_of(path: str, configs: Mapping[Path, Mapping[str, Any]]) -> Callable[[SavedRun], object]:
    return lambda run: configs[run.path].get(path)


def _rank(value: object) -> tuple[int, float, str]:
    # Numbers first, then texts, then what isn't there or isn't a number.
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
