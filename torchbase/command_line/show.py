"""``torchbase show``: all that a run tells of itself."""

import argparse
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from torchbase.command_line.curves import go_through_magnitudes, scale_of
from torchbase.command_line.environment import describe_environment
from torchbase.command_line.run_details import Details, read_details
from torchbase.command_line.run_records import SavedRun, find_run, flattened, read_run
from torchbase.command_line.terminal import (
    HEAD,
    NOTHING,
    STYLES,
    WIDTH_OF_A_PAGE,
    Trimmed,
    config_value,
    make_console,
    make_table,
    number,
    plain,
    short_names,
    write_notes,
)
from torchbase.command_line.terminal_curves import NARROWEST, draw
from torchbase.errors import RunDirectoryError, did_you_mean

DECISIONS_SHOWN = 5


def add(parser: argparse.ArgumentParser) -> None:
    """Describes the command.

    Args:
        parser: What parses its arguments.
    """
    parser.description = "Shows a run: how it went, its config, its environment, the votes, averages and curves."
    parser.add_argument("run", metavar="RUN", help="the path of the run directory, or its tag where it is in runs")
    parser.add_argument(
        "--curve", action="append", metavar="NAME", help="the average to draw, in place of the loss; can be repeated"
    )
    parser.set_defaults(command=show)


def show(given: argparse.Namespace) -> int:
    """Shows a run.

    Args:
        given: The arguments.

    Returns:
        1 if something in the run directory is damaged, else 0.

    Raises:
        RunDirectoryError: If there is no such run, or no such average.
    """
    run = read_run(find_run(given.run))
    details = read_details(run.path)
    curves = _chosen(details, given.curve)
    console = make_console()
    console.print(Text(plain(run.tag), style=HEAD))
    console.print(Trimmed(_how_it_went(run, details)))
    _write(console, "config", _pairs((path, config_value(value)) for path, value in flattened(run.config).items()))
    _write(console, "environment", _pairs(describe_environment(details)))
    _write(console, "votes", _votes(details))
    for epoch, which in _epochs_to_show(details):
        _write(console, f"averages of epoch {epoch}, {which}", _averages(details.averages_of(epoch)))
    for name in curves:
        _draw(console, name, details)
    damages = [*run.damages, *details.damages]
    write_notes(console, [*damages, *run.notes])
    return int(bool(damages))


def _chosen(details: Details, given: list[str] | None) -> list[str]:
    if given is None:
        return list(details.curves)[:1]
    for name in given:
        if name not in details.curves:
            hint = did_you_mean(name, details.curves) or f" There are: {', '.join(details.curves) or 'none'}."
            raise RunDirectoryError(f"The run has no average named {name!r}.{hint}")
    return given


def _write(console: Console, title: str, content: Table | Text) -> None:
    if not isinstance(content, Table) or content.row_count:
        console.print()
        console.print(Text(title, style=HEAD))
        console.print(Trimmed(content))


def _draw(console: Console, name: str, details: Details) -> None:
    curves = {short: details.curves[name][phase] for phase, short in short_names(details.curves[name]).items()}
    scale = scale_of(curves.values(), go_through_magnitudes(curves.values()))
    if scale is not None:
        title = f"{plain(name)}{', logarithmic' if scale.is_logarithmic else ''}"
        _write(console, title, draw(curves, scale, max(NARROWEST, min(console.width, WIDTH_OF_A_PAGE))))


def _pairs(pairs: Iterable[tuple[str, str | Text]]) -> Table:
    table = make_table("", "")
    for name, value in pairs:
        table.add_row(f"  {plain(name)}", value)
    return table


def _how_it_went(run: SavedRun, details: Details) -> Table:
    status = run.status
    counts = run.epochs_done, run.max_epochs, run.iterations
    done, of, iterations = ("?" if count is None else f"{count:,}" for count in counts)
    pairs: list[tuple[str, str | Text]] = [
        ("folder", plain(run.path)),
        ("state", Text(run.state, style=STYLES[run.state])),
        ("epochs", f"{done} of {of}, {iterations} iterations"),
    ]
    if status is not None:
        if status.reason is not None:
            pairs.insert(2, ("reason", plain(status.reason)))
        pairs.append(("started", _time(status.started_at)))
        if status.resumed_at is not None:
            pairs.append(("resumed", _time(status.resumed_at)))
        pairs.append(("updated", _time(status.updated_at)))
        pairs.append(("process", f"{status.process_id} on {plain(status.host)}"))
    if details.best_epoch is not None:
        pairs.append(("best epoch", str(details.best_epoch)))
    names = short_names(run.best_losses)
    losses = [f"{names[phase]} {number(best.loss)} @{best.epoch}" for phase, best in run.best_losses.items()]
    if losses:
        pairs.append(("lowest loss", ", ".join(losses)))
    return _pairs(pairs)


def _time(text: str) -> str:
    try:
        return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M:%S %z}"
    except ValueError:
        return plain(text)


def _votes(details: Details) -> Table:
    table = make_table("", "", "")
    best = details.best_epoch
    shown = [one for one in details.decisions[-DECISIONS_SHOWN:] if one["epoch"] != best]
    chosen = [one for one in details.decisions if one["epoch"] == best] + shown
    for decision in sorted(chosen, key=lambda one: one["epoch"]):
        kept = "kept" if decision.get("kept") is True else "not kept"
        table.add_row(f"  epoch {decision['epoch']}", kept, plain(decision.get("reason", "")))
    return table


def _epochs_to_show(details: Details) -> list[tuple[int, str]]:
    if not details.epochs:
        return []
    best, last = details.best_epoch, details.epochs[-1].epoch
    if best == last:
        return [(last, "the best and the last one")]
    return [*([(best, "the best one")] if best is not None else []), (last, "the last one")]


def _averages(averages: Mapping[str, Mapping[str, float]]) -> Table:
    names: dict[str, Any] = {name: None for values in averages.values() for name in values}
    short = short_names(averages)
    table = make_table("", *short.values(), right=short.values())
    for name in sorted(names, key=lambda name: name != "loss"):
        values = [averages[phase].get(name) for phase in averages]
        table.add_row(f"  {plain(name)}", *(NOTHING if value is None else number(value) for value in values))
    return table
