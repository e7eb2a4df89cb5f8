"""``torchbase runs``: a table of the runs in a folder."""

import argparse
import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from torchbase.command_line.run_columns import columns_of
from torchbase.command_line.run_conditions import select_runs
from torchbase.command_line.run_keys import Key, ListedRun, find_key, keys_of, sort_runs
from torchbase.command_line.run_listing import Listing, read_runs
from torchbase.command_line.run_output import to_csv, to_json
from torchbase.command_line.run_records import DEFAULT_PARENT, flatten
from torchbase.command_line.run_table import RunTable
from torchbase.command_line.terminal import PIPE_WIDTH, crop, make_console, plain, write_notes
from torchbase.errors import list_first

MAX_VALUE_WIDTH = 24
WIDTH_BESIDE_TAGS = 32  # for the state, the epochs and a loss
NOTES_SHOWN = 10
KEYS = (
    "run, group, state, epochs, iterations, duration, epoch_time, started, updated, a key of the config (learning_rate "
    "or session.learning_rate), or a value of the epochs: SET/NAME/lowest, /highest or /last, such as "
    "valid/accuracy/highest"
)


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments.

    Args:
        parser: The parser of the command.
    """
    parser.description = (
        "Lists the runs in a folder: how they ended, their lowest losses, and how their configs differ."
    )
    parser.epilog = f"KEY is one of: {KEYS}. SET/NAME is the best value, if it is known whether lower is better."
    parser.add_argument("parent", nargs="?", type=Path, default=DEFAULT_PARENT, metavar="DIR", help="default: runs")
    parser.add_argument("--sort", metavar="KEY", help="the order (by default the tags: oldest first)")
    parser.add_argument(
        "--show", metavar="KEY", action="append", default=[], help="another column of the table; can be repeated"
    )
    parser.add_argument(
        "--where",
        metavar="CONDITION",
        action="append",
        default=[],
        help="only runs that meet a condition, such as 'session.learning_rate<0.01' or state=finished; with =, !=, <, "
        "<=, > or >=; can be repeated",
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="write JSON: a list with one object per run")
    output.add_argument("--csv", action="store_true", help="write CSV: one line per run, with everything")
    parser.set_defaults(command=list_runs)


def list_runs(options: argparse.Namespace) -> int:
    """Lists runs.

    Args:
        options: The parsed arguments.

    Returns:
        1 if something in a run directory is damaged, else 0.

    Raises:
        RunDirectoryError: If the folder can't be listed, or no run has a key.
    """
    console = make_console()
    with _without_garbage_collection():
        listing = read_runs(options.parent)
        runs = [ListedRun(run, flatten(run.config)) for run in listing.runs]
        names = [*([] if options.sort is None else [options.sort]), *options.show]
        known = keys_of(runs) if runs and (names or options.where) else {}
        keys = [find_key(name, known) for name in names] if runs else []
        chosen = select_runs(runs, options.where, known) if runs else []
        if options.sort is not None and runs:
            chosen = sort_runs(chosen, keys[0])
        if options.json or options.csv:
            text = to_csv(chosen) if options.csv else f"{to_json(chosen)}\n"
            sys.stdout.write(text)
        else:
            _write_table(console, options.parent, listing, chosen, keys)
    return int(any(run.damages for run in listing.runs))


def _write_table(
    console: Console, parent: Path, listing: Listing, runs: Sequence[ListedRun], keys: Sequence[Key]
) -> None:
    notes = _notes_of(listing, runs)
    if runs:
        table = _make_table(console, runs, keys)
        console.print(table, crop=False)
        if table.hidden:
            notes.insert(0, f"too wide to show: {', '.join(table.hidden)} (--json and --csv have everything)")
    elif listing.runs:
        console.print(f"none of the {len(listing.runs):,} runs in {plain(parent)} meets the conditions")
    else:
        console.print(f"no runs in {plain(parent)}")
    if 0 < len(runs) < len(listing.runs):
        notes.insert(0, f"{len(runs):,} of {len(listing.runs):,} runs meet the conditions")
    write_notes(console, notes)


def _make_table(console: Console, runs: Sequence[ListedRun], keys: Sequence[Key]) -> RunTable:
    is_pipe = console.width >= PIPE_WIDTH  # each run is one line there
    groups = _groups_of(runs)
    in_order = [listed for group in groups.values() for listed in group]
    max_tag_width = max(console.width - WIDTH_BESIDE_TAGS, MAX_VALUE_WIDTH)
    max_value_width = PIPE_WIDTH if is_pipe else MAX_VALUE_WIDTH
    has_groups = list(groups) != [None]
    columns = columns_of(in_order, keys, max_tag_width, max_value_width, has_groups=has_groups and is_pipe)
    headings, position = {}, 0
    for group, members in groups.items():
        name = "no group" if group is None else f"group {plain(group)}"
        headings[position] = crop(f"{name}, {len(members)} run{'s' * (len(members) != 1)}", console.width)
        position += len(members)
    return RunTable(columns, console.width, headings if has_groups and not is_pipe else {})


def _groups_of(runs: Sequence[ListedRun]) -> dict[str | None, list[ListedRun]]:
    groups: dict[str | None, list[ListedRun]] = {}
    for listed in runs:
        groups.setdefault(listed.run.group, []).append(listed)
    return groups


def _notes_of(listing: Listing, runs: Sequence[ListedRun]) -> list[str]:
    notes = [*(f"{run.tag}: {damage}" for run in listing.runs for damage in run.damages)]
    notes += [f"{listed.run.tag}: {note}" for listed in runs for note in listed.run.notes]
    more = len(notes) - NOTES_SHOWN
    notes = notes if more <= 0 else [*notes[:NOTES_SHOWN], f"and {more} more notes (--json shows all)"]
    notes += listing.notes
    return [*notes, f"other folders: {list_first(listing.others, NOTES_SHOWN)}"] if listing.others else notes


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    # Thousands of runs are a million objects without cycles. Looking for cycles takes a third of the time.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
