"""``torchbase hooks``: the catalogue of events, or the hooks of a session in the order in which they are called."""

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from torchbase.command_line.catalogue import RETURN_VALUES, read_catalogue
from torchbase.command_line.run_records import find_run, read_run
from torchbase.command_line.terminal import HEADER, Trimmed, make_console, make_table, plain, write_notes
from torchbase.errors import HookError, RunDirectoryError, TorchbaseError
from torchbase.listeners import HookOrder, Listener, order_of
from torchbase.run_directory.record import HOOKS_FILE, read_hooks

WRAPPER_MARK = " (wrapper)"
SMALLEST_CONFIG: dict[str, Any] = {
    "session": {"device_name": "cpu", "num_epochs": 1, "mini_batch_size": 1, "learning_rate": 1.0},
    "network": {"architecture": "Network"},
}


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments.

    Args:
        parser: The parser of the command.
    """
    parser.description = "Lists the events, or the hooks that each event of a run or a session calls, in order."
    parser.add_argument(
        "run", nargs="?", metavar="RUN", help="the path of a run directory, or its tag if it is in runs"
    )
    parser.add_argument(
        "--session",
        metavar="FILE:CLASS",
        help="create a session of this class, with the config of RUN if there is one, and list its hooks",
    )
    parser.set_defaults(command=list_hooks)


def list_hooks(options: argparse.Namespace) -> int:
    """Lists events or hooks.

    Args:
        options: The parsed arguments.

    Returns:
        0.

    Raises:
        RunDirectoryError: If the run doesn't exist, or its hooks aren't recorded.
        HookError: If the session can't be created.
    """
    run_dir = find_run(options.run) if options.run is not None else None
    console = make_console()
    if options.session is not None:
        _write_order(console, _order_of_session(options.session, run_dir))
    elif run_dir is not None:
        _write_order(console, _order_of_run(run_dir))
    else:
        _write_catalogue(console)
    return 0


def _write_catalogue(console: Console) -> None:
    table = make_table("event", "arguments", "when it fires, or what it is for")
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
    table = make_table("event", "hooks, in the order in which they are called")
    table.columns[0].no_wrap = True
    positions = {event.name: position for position, event in enumerate(read_catalogue())}
    for event in sorted(order.events, key=lambda event: positions.get(event, len(positions))):
        table.add_row(plain(event), Text(", ").join(map(_hook_name, order.events[event])))
    console.print(Trimmed(table))
    if any(listener.is_wrapper for listeners in order.events.values() for listener in listeners):
        write_notes(console, [f"{WRAPPER_MARK.strip()}: wraps the hooks after it"])


def _hook_name(listener: Listener) -> Text:
    name = plain(listener.name)
    return Text(name + WRAPPER_MARK, style=HEADER) if listener.is_wrapper else Text(name)


def _order_of_run(run_dir: Path) -> HookOrder:
    order = read_hooks(run_dir)
    if order is None:
        raise RunDirectoryError(
            f"The hooks of {run_dir} aren't recorded: there is no {HOOKS_FILE}, for example because the run ended "
            "before it started to train. To fix, pass --session FILE:CLASS."
        )
    return order


def _order_of_session(name: str, run_dir: Path | None) -> HookOrder:
    from torchbase.session.loading import find_session_class  # imports torch

    session_class = find_session_class(run_dir if run_dir is not None else Path(), name)
    config = dict(read_run(run_dir).config) if run_dir is not None else SMALLEST_CONFIG
    if isinstance(config.get("session"), Mapping):  # on the CPU, since another machine's device may be missing here
        config = {**config, "session": {**config["session"], "device_name": "cpu"}}
    with tempfile.TemporaryDirectory(prefix="torchbase-hooks-", ignore_cleanup_errors=True) as parent:
        try:
            engine = session_class(config, parent).engine
        except TorchbaseError:
            raise
        except Exception as error:
            hint = "" if run_dir is not None else " If it needs other config keys, pass a run directory, too."
            raise HookError(
                f"A session of the class {session_class.__name__} can't be created from a config alone: "
                f"{type(error).__name__}: {error}.{hint}"
            ) from error
        return order_of(engine.hooks, engine.listeners)
