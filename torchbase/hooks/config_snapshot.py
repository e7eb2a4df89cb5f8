"""Saves the config and the environment of a run in its directory."""

import inspect
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchbase.distributed.processes import Processes
from torchbase.engine.entry_points import describe_plugin
from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.run import Run
from torchbase.errors import RunDirectoryError
from torchbase.files.durable import read_json, write_json
from torchbase.run_directory.config_snapshot import Kind, added_snapshot, config_changes, newest_config, snapshots
from torchbase.run_directory.directory import RunDirectory
from torchbase.run_directory.environment import (
    describe_environment,
    describe_processes,
    describing_code,
    differences_for_bits,
)

if TYPE_CHECKING:
    from torchbase.run_directory.config import Config

logger = logging.getLogger("torchbase")


class ConfigSnapshot:
    """Saves the config and the environment as ``config.json`` and ``environment.json``.

    A resumed run adds files with its own environment, and with its config if that differs. It writes them when training
    starts. A session that only inspects a run, or finds no checkpoint to resume from, leaves the directory unchanged.
    """

    main_process_only = True

    def __init__(self) -> None:
        self._to_write: dict[Kind, Any] = {}
        self._folder: Path | None = None
        self._adds = False
        self._differences: list[str] = []

    @hookimpl
    def on_setup_start(
        self,
        run_directory: RunDirectory,
        config: "Config",
        resuming: bool,
        session_class: type | None,
        processes: Processes,
    ) -> None:
        """Writes both files, and warns of each difference in the config of a resumed run."""
        with describing_code(Path.cwd()) as describe_code:
            environment: dict[str, Any] = {**describe_environment(), "session": describe_class(session_class)}
            environment["processes"] = describe_processes(processes.members)
            environment["plugins"] = {name: describe_plugin(name) for name in config.session.plugins}
            saved = newest_config(run_directory.path)
            self._folder, self._adds = run_directory.path, resuming and saved is not None
            if saved is not None and self._adds:
                self._differences = _differences_to_newest(run_directory.path, environment)
                environment["config_changes"] = [str(change) for change in config_changes(saved, config)]
                for change in environment["config_changes"]:
                    logger.warning("The config differs from the run that is resumed: %s", change)
            self._to_write = {} if saved == config.as_given else {"config": config.as_given}
            if not resuming:
                self._write()
            self._to_write["environment"] = {**environment, "git": describe_code()}
        if not resuming:
            self._write()

    # At this point Checkpoint has restored the run.
    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Writes the files that a resumed run adds, and warns of another environment that can change bits."""
        if "environment" in self._to_write:
            self._to_write["environment"]["iterations_before"] = run.progress.iterations
            for difference in self._differences:
                logger.warning(
                    "The run continues with %s, so the last bits of its results can differ from those of a run that "
                    "was not interrupted. To fix, set the environment variable OMP_NUM_THREADS, or use the same kind "
                    "of machine; torchrun sets OMP_NUM_THREADS to 1 unless it is set.",
                    difference,
                )
        self._write()

    def _write(self) -> None:
        while self._to_write and self._folder is not None:
            kind, value = self._to_write.popitem()
            # Numbered now, while the run directory is locked.
            write_json(added_snapshot(self._folder, kind) if self._adds else self._folder / f"{kind}.json", value)


def _differences_to_newest(run_directory: Path, environment: dict[str, Any]) -> list[str]:
    files = snapshots(run_directory, "environment")
    try:
        return differences_for_bits(read_json(files[-1]), environment) if files else []
    except (RunDirectoryError, KeyError, TypeError) as error:  # damaged, or written by a program of somebody else
        logger.warning(
            "%s can't be read, so it isn't known whether the run was trained with as many threads: %r", files[-1], error
        )
        return []


def describe_class(session_class: type | None) -> dict[str, Any] | None:
    """Describes where the class of a session is defined.

    Args:
        session_class: The class.

    Returns:
        The name, module and file of the class, for JSON; None if there is no class.
    """
    if session_class is None:
        return None
    try:
        file = str(Path(inspect.getfile(session_class)).absolute())
    except (OSError, TypeError):  # defined in a terminal or a notebook
        file = None
    return {"class": session_class.__qualname__, "module": _module_of(session_class, file), "file": file}


def _module_of(session_class: type, file: str | None) -> str:
    """Returns the name by which the module of a class can be imported; ``__main__`` for a script."""
    name = session_class.__module__
    if name not in ("__main__", "__mp_main__"):  # the latter is the name of the script in a spawned process
        return name
    # python -m package.module runs the module as __main__, and its specification has its name.
    specification = getattr(sys.modules.get(name), "__spec__", None)
    if specification is None or file is None or specification.origin is None:
        return "__main__"
    return specification.name if Path(specification.origin).absolute() == Path(file) else "__main__"
