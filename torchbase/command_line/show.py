"""``torchbase show``: everything that is recorded about a run."""

import argparse
from collections.abc import Iterable, Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from torchbase.command_line.best_networks import write_best_networks
from torchbase.command_line.curves import make_scale, span_magnitudes
from torchbase.command_line.environment import describe_environment
from torchbase.command_line.grids import GridColumn, make_grids
from torchbase.command_line.network import write_network
from torchbase.command_line.run_details import Details, read_details
from torchbase.command_line.run_records import RUNNING, SavedRun, find_run, flatten, read_run
from torchbase.command_line.terminal import (
    HEADER,
    PAGE_WIDTH,
    STYLES,
    Trimmed,
    format_number,
    format_value,
    make_console,
    make_table,
    pack,
    plain,
    short_names,
    write_notes,
)
from torchbase.command_line.terminal_curves import MIN_WIDTH, draw
from torchbase.command_line.times import format_duration, format_time
from torchbase.errors import RunDirectoryError, nearest_or_all
from torchbase.run_directory.names import LOSS

DECISIONS_SHOWN = 5
WIDTH_OF_NAMES = 15  # of the summary


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments.

    Args:
        parser: The parser of the command.
    """
    parser.description = "Shows a run: its state, config, environment, votes, averages and curves."
    parser.add_argument("run", metavar="RUN", help="the path of the run directory, or its tag if it is in runs")
    parser.add_argument(
        "--curve", action="append", metavar="NAME", help="an average to draw instead of the loss; can be repeated"
    )
    parser.add_argument("--network", action="store_true", help="list all modules of the network, with shapes")
    parser.set_defaults(command=show)


def show(options: argparse.Namespace) -> int:
    """Shows a run.

    Args:
        options: The parsed arguments.

    Returns:
        1 if something in the run directory is damaged, else 0.

    Raises:
        RunDirectoryError: If the run or an average doesn't exist.
    """
    run = read_run(find_run(options.run))
    details = read_details(run.path)
    curves = _choose_curves(details, options.curve)
    console = make_console()
    console.print(Text(plain(run.tag), style=HEADER))
    console.print(Trimmed(_summary(run, details, console.width)))
    _write(console, "config", _pairs((path, format_value(value)) for path, value in flatten(run.config).items()))
    _write(console, "environment", _pairs(describe_environment(details)))
    damages = write_network(console, run.path, whole=options.network)
    _write(console, "votes", _votes(details))
    damages += write_best_networks(console, run.path)
    for epoch, mark in _epochs_to_show(details):
        tables = _averages(details.averages_of(epoch), console.width)
        _write(console, f"averages of epoch {epoch} ({mark})", *tables)
    for name in curves:
        _draw(console, name, details)
    damages = list(dict.fromkeys((*run.damages, *details.damages, *damages)))
    write_notes(console, [*damages, *run.notes])
    return int(bool(damages))


def _choose_curves(details: Details, names: list[str] | None) -> list[str]:
    if names is None:
        return list(details.curves)[:1]
    for name in names:
        if name not in details.curves:
            raise RunDirectoryError(f"The run has no average named {name!r}.{nearest_or_all(name, details.curves)}")
    return names


def _write(console: Console, title: str, *contents: Table | Text) -> None:
    for position, content in enumerate(contents):
        if isinstance(content, Text) or content.row_count:
            console.print()
            if position == 0:
                console.print(Text(title, style=HEADER))
            console.print(Trimmed(content))


def _draw(console: Console, name: str, details: Details) -> None:
    curves = {short: details.curves[name][phase] for phase, short in short_names(details.curves[name]).items()}
    scale = make_scale(curves.values(), span_magnitudes(curves.values()))
    if scale is not None:
        title = f"{plain(name)}{', logarithmic' if scale.is_logarithmic else ''}"
        _write(console, title, draw(curves, scale, max(MIN_WIDTH, min(console.width, PAGE_WIDTH))))


def _pairs(pairs: Iterable[tuple[str, str | Text]]) -> Table:
    table = make_table("", "")
    for name, value in pairs:
        table.add_row(f"  {plain(name)}", value)
    return table


def _summary(run: SavedRun, details: Details, width: int) -> Table:
    status = run.status
    counts = run.epochs_done, run.max_epochs, run.iterations
    done, total, iterations = ("?" if count is None else f"{count:,}" for count in counts)
    pairs: list[tuple[str, str | Text]] = [
        ("folder", plain(run.path)),
        *([] if run.group is None else [("group", plain(run.group))]),
        ("state", Text(run.state, style=STYLES[run.state])),
        ("epochs", f"{done} of {total}, {iterations} iterations" if run.max_iterations is None else done),
    ]
    if run.max_iterations is not None:
        pairs.append(("iterations", f"{iterations} of {run.max_iterations:,}"))
    if status is not None:
        if status.reason is not None:
            pairs.insert(-1, ("reason", plain(status.reason)))
        pairs.append(("started", format_time(status.started_at)))
        if status.resumed_at is not None:
            pairs.append(("resumed", format_time(status.resumed_at)))
        pairs.append(("updated", format_time(status.updated_at)))
        pairs.append(("duration", _duration(run)))
        pairs.append(("process", f"{status.process_id} on {plain(status.host)}"))
    if details.best_epoch is not None:
        pairs.append(("best epoch", str(details.best_epoch)))
    names = short_names(run.best_losses)
    losses = [f"{names[phase]} {format_number(best.loss)} @{best.epoch}" for phase, best in run.best_losses.items()]
    if losses:
        pairs.append(("lowest loss", pack(losses, width - WIDTH_OF_NAMES)))
    return _pairs(pairs)


def _duration(run: SavedRun) -> str:
    if run.seconds is None:
        return "unknown"
    epoch = "" if run.epoch_seconds is None else f", {format_duration(run.epoch_seconds)} for the last whole epoch"
    return f"{format_duration(run.seconds)}{' so far' if run.state == RUNNING else ''}{epoch}"


def _votes(details: Details) -> Table:
    table = make_table("", "", "")
    best = details.best_epoch
    latest = [decision for decision in details.decisions[-DECISIONS_SHOWN:] if decision["epoch"] != best]
    shown = [decision for decision in details.decisions if decision["epoch"] == best] + latest
    for decision in sorted(shown, key=lambda decision: decision["epoch"]):
        saved = "saved" if decision.get("is_best") is True else "not saved"
        table.add_row(f"  epoch {decision['epoch']}", saved, plain(decision.get("reason", "")))
    return table


def _epochs_to_show(details: Details) -> list[tuple[int, str]]:
    if not details.epochs:
        return []
    best, last = details.best_epoch, details.epochs[-1].epoch
    if best == last:
        return [(last, "best and last")]
    return [*([(best, "best")] if best is not None else []), (last, "last")]


def _averages(averages: Mapping[str, Mapping[str, float]], width: int) -> list[Table]:
    names = sorted({name: None for values in averages.values() for name in values}, key=lambda name: name != LOSS)
    columns = [
        GridColumn(short, [Text(format_number(averages[phase].get(name))) for name in names])
        for phase, short in short_names(averages).items()
    ]
    return list(make_grids([Text(f"  {plain(name)}") for name in names], columns, width))
