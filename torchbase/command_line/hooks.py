"""``torchbase hooks``: the catalogue of events, or the hooks of a session in the order of their calls."""

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from torchbase.command_line.catalogue import RETURN_VALUES, read_catalogue
from torchbase.command_line.run_records import find_run, read_run
from torchbase.command_line.terminal import HEAD, Trimmed, make_console, make_table, plain, write_notes
from torchbase.errors import HookError, RunDirectoryError, TorchbaseError
from torchbase.listeners import HookOrder, Listener, order_of
from torchbase.run_directory.record import HOOKS_FILE, read_hooks

AROUND = " (around)"
SMALLEST_CONFIG: dict[str, Any] = {
    "session": {"device_name": "cpu", "num_epochs": 1, "mini_batch_size": 1, "learning_rate": 1.0},
    "network": {"architecture": "Network"},
}


def add(parser: argparse.ArgumentParser) -> None:
    """Describes the command.

    Args:
        parser: What parses its arguments.
    """
    parser.description = "Lists the events; of a run or a session, the hooks that each event calls, in their order."
    parser.add_argument(
        "run", nargs="?", metavar="RUN", help="the path of a run directory, or its tag where it is in runs"
    )
    parser.add_argument(
        "--session",
        metavar="FILE:CLASS",
        help="make a session of this class, with the config of RUN if one is given, and show its hooks",
    )
    parser.set_defaults(command=list_hooks)


def list_hooks(given: argparse.Namespace) -> int:
    """Lists events or hooks.

    Args:
        given: The arguments.

    Returns:
        0.

    Raises:
        RunDirectoryError: If there is no such run, or it doesn't tell its hooks.
        HookError: If the session can't be made.
    """
    run_dir = find_run(given.run) if given.run is not None else None
    console = make_console()
    if given.session is not None:
        _write_order(console, _order_of_session(given.session, run_dir))
    elif run_dir is not None:
        _write_order(console, _order_of_run(run_dir))
    else:
        _write_catalogue(console)
    return 0


def _write_catalogue(console: Console) -> None:
    table = make_table("event", "gives", "when, or what for")
    table.columns[0].no_wrap = True
    for event in read_catalogue():
        table.add_row(event.name, ", ".join(event.arguments), event.summary)
    console.print(Trimmed(table))
    write_notes(console, RETURN_VALUES)


def _write_order(console: Console, order: HookOrder) -> None:
    table = make_table("hook", "class")
    for name, kind in order.classes.items():
        table.add_row(plain(name), plain(kind))
    console.print(Trimmed(table))
    console.print()
    table = make_table("event", "hooks, in the order of their calls")
    table.columns[0].no_wrap = True
    places = {event.name: place for place, event in enumerate(read_catalogue())}
    for event in sorted(order.events, key=lambda event: places.get(event, len(places))):
        table.add_row(plain(event), Text(", ").join(map(_named, order.events[event])))
    console.print(Trimmed(table))
    if any(one.is_wrapper for listeners in order.events.values() for one in listeners):
        write_notes(console, [f"{AROUND.strip()}: goes around what those behind it do"])


def _named(listener: Listener) -> Text:
    return Text(plain(listener.name) + AROUND, style=HEAD) if listener.is_wrapper else Text(plain(listener.name))


def _order_of_run(run_dir: Path) -> HookOrder:
    order = read_hooks(run_dir)
    if order is None:
        raise RunDirectoryError(
            f"{run_dir} doesn't tell its hooks: there is no {HOOKS_FILE}, as of a run that was ended before it began "
            "to train. To fix, give --session FILE:CLASS."
        )
    return order


def _order_of_session(given: str, run_dir: Path | None) -> HookOrder:
    from torchbase.session.loading import find_session_class  # late, since it needs torch

    session_class = find_session_class(run_dir if run_dir is not None else Path(), given)
    config = dict(read_run(run_dir).config) if run_dir is not None else SMALLEST_CONFIG
    if isinstance(config.get("session"), Mapping):  # on any device, since it may have been another machine's
        config = {**config, "session": {**config["session"], "device_name": "cpu"}}
    with tempfile.TemporaryDirectory(prefix="torchbase-hooks-", ignore_cleanup_errors=True) as parent:
        try:
            engine = session_class(config, parent).engine
        except TorchbaseError:
            raise
        except Exception as error:
            hint = "" if run_dir is not None else " If it needs more of a config, give the directory of a run, too."
            raise HookError(
                f"No session of the class {session_class.__name__} can be made from a config alone: "
                f"{type(error).__name__}: {error}.{hint}"
            ) from error
        return order_of(engine.hooks, engine.listeners)
