"""How a session takes part in a replay: ``torchbase replay`` starts the program of a run again, in another folder."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from torchbase.checkpoints.muted_backends import mute_backends
from torchbase.engine.loop import Engine
from torchbase.errors import RunDirectoryError
from torchbase.files.durable import read_json
from torchbase.run_directory.config_snapshot import MAY_CHANGE, config_changes, newest_config, snapshots
from torchbase.run_directory.replays import ORDERS_VARIABLE, ReplayOrders, read_orders
from torchbase.session.run_source import RunSource
from torchbase.session.state_trace import StateTrace

if TYPE_CHECKING:
    from torchbase.run_directory.config import Config

_logger = logging.getLogger("torchbase")


def source_in_replay(source: RunSource, config: "Config", session_class: type) -> RunSource:
    """Returns the run directory of a session, or in a replay another one, so that nothing of earlier runs is changed.

    Args:
        source: The run directory.
        config: The config of the session.
        session_class: Its class.

    Returns:
        ``source``, unless the environment variable is set. Then that of the replay, if this is the session of the run
        that is replayed; otherwise one beside it.

    Raises:
        RunDirectoryError: If the orders can't be read, or if another session needs an earlier run.
    """
    orders = read_orders()
    if orders is None or source.path_of_run.parent == orders.copy.parent:
        return source
    if _is_replayed(orders, config, session_class):
        _logger.warning(
            "This session trains the run %s again until iteration %s, in %s, since the environment variable %s is set.",
            *(orders.run, f"{orders.until[0]:,}", orders.copy, ORDERS_VARIABLE),
        )
        return RunSource(orders.copy.parent, False, orders.copy.name, "best", None)
    if source.tag is not None:
        raise RunDirectoryError(
            f"This program can't be replayed: it opens the run {source.path_of_run} before the session of {orders.run} "
            "is created. To fix, pass a program that creates a session of its class with its config, by --program."
        )
    return replace(source, parent=orders.copy.parent)


@contextmanager
def replaying(engine: Engine, run_directory: Path) -> Iterator[None]:
    """Prepares the hooks for a replay, and ends the program after it. Otherwise it does nothing.

    Args:
        engine: The engine of the session.
        run_directory: The path of its run directory.

    Yields:
        Nothing.

    Raises:
        SystemExit: After a replay, since what the program does next may write elsewhere.
    """
    orders = read_orders()
    if orders is None or run_directory != orders.copy:
        yield
        return
    mute_backends(engine)
    engine.register(StateTrace(orders))
    yield
    raise SystemExit(0)


def _is_replayed(orders: ReplayOrders, config: "Config", session_class: type) -> bool:
    saved = newest_config(orders.copy)
    environments = snapshots(orders.copy, "environment")
    session = read_json(environments[-1]).get("session") if environments else None
    if saved is None or (session and session.get("class") != session_class.__qualname__):
        return False
    return all(change.path in MAY_CHANGE for change in config_changes(saved, config))
