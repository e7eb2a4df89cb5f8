"""``torchbase compare``: several runs side by side, in the terminal or on a page."""

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from torchbase.command_line.comparison import Comparison, Row, compare_runs
from torchbase.command_line.comparison_page import make_page
from torchbase.command_line.grids import GridColumn, make_grids
from torchbase.command_line.run_details import read_details
from torchbase.command_line.run_records import find_run, read_run
from torchbase.command_line.sameness import compare_traces
from torchbase.command_line.terminal import (
    BEST,
    HEADER,
    STYLES,
    Trimmed,
    make_console,
    plain,
    write_notes,
)
from torchbase.command_line.verdicts import Verdicts
from torchbase.files.durable import os_errors_explained

MARK_OF_BEST = "*"
NONE = Text("  none")


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments.

    Args:
        parser: The parser of the command.
    """
    parser.description = (
        "Compares runs side by side: how their configs differ, their results, and their bits. Or compares traces that "
        "`torchbase replay` wrote."
    )
    parser.add_argument("run", metavar="RUN", help="the path of a run directory, or its tag if it is in runs")
    parser.add_argument("others", nargs="+", metavar="RUN", help="the runs to compare with it")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a self-contained page with all curves to FILE")
    parser.set_defaults(command=compare)


def compare(options: argparse.Namespace) -> int:
    """Compares runs.

    Args:
        options: The parsed arguments.

    Returns:
        1 if something in a run directory is damaged, else 0.

    Raises:
        RunDirectoryError: If a run doesn't exist, or the page can't be written.
    """
    files = [Path(name) for name in (options.run, *options.others)]
    if all(file.is_file() for file in files):
        sys.stdout.write("".join(f"{line}\n" for line in compare_traces(files)))
        return 0
    runs = [read_run(path) for path in dict.fromkeys(find_run(name) for name in (options.run, *options.others))]
    comparison = compare_runs(runs, [read_details(run.path) for run in runs])
    if options.html is not None:
        with os_errors_explained("write", options.html):
            options.html.write_text(make_page(comparison), encoding="utf-8")
        sys.stdout.write(f"written: {options.html}\n")
    else:
        _write_tables(make_console(), comparison)
    damages = list(
        dict.fromkeys(
            damage
            for run, details in zip(comparison.runs, comparison.details, strict=True)
            for damage in (*run.damages, *details.damages)
        )
    )
    damages += comparison.verdicts.damages
    damages += comparison.sameness.damages
    write_notes(make_console(), [*damages, *(f"{run.tag}: {note}" for run in runs for note in run.notes)])
    return int(bool(damages))


def _write_tables(console: Console, comparison: Comparison) -> None:
    for label, run in zip(comparison.labels, comparison.runs, strict=True):
        console.print(Text.assemble((f"{label}  ", HEADER), plain(run.path)))
    names = [
        name
        for title, rows in comparison.parts.items()
        for name in (Text(title, style=HEADER), *(Text(f"  {row.name}") for row in rows), *([] if rows else [NONE]))
    ]
    columns = [GridColumn(label, _cells(comparison, position)) for position, label in enumerate(comparison.labels)]
    for table in make_grids(names, columns, console.width):
        console.print()
        console.print(Trimmed(table))
    _write_verdicts(console, comparison.verdicts)
    write_notes(console, comparison.sameness.sentences)


def _write_verdicts(console: Console, verdicts: Verdicts) -> None:
    if verdicts.verdicts:
        console.print()
        console.print(Text(verdicts.title, style=HEADER))
        texts = [Text("\n".join(verdict.lines)) for verdict in verdicts.verdicts]
        names = [Text(f"  {verdict.name}") for verdict in verdicts.verdicts]
        for table in make_grids(names, [GridColumn("", texts, is_right=False)], console.width):
            console.print(Trimmed(table))


def _cells(comparison: Comparison, position: int) -> list[Text]:
    nothing = Text("")
    return [
        cell
        for rows in comparison.parts.values()
        for cell in (nothing, *(_cell(row, position) for row in rows), *([] if rows else [nothing]))
    ]


def _cell(row: Row, position: int) -> Text:
    text = row.cells[position]
    if position in row.best:
        return Text(f"{MARK_OF_BEST} {text}", style=BEST)
    return Text(text, style=STYLES.get(text, ""))
