"""Beginning a run under a name, or going on with it: for programs that are started again until the run has ended."""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self, cast

from torchbase.distributed.joining import join
from torchbase.errors import RunDirectoryError
from torchbase.files.durable import read_json
from torchbase.run_directory.config_snapshot import snapshots
from torchbase.run_directory.error_files import errors_for_torchrun
from torchbase.run_directory.named import checked_path
from torchbase.session.run_source import DEFAULT_PARENT
from torchbase.session.together import tell_result

_logger = logging.getLogger("torchbase")


class SessionBeginning:
    """The session of a run that has a name."""

    @classmethod
    def begin_or_resume(
        cls, config: Mapping[str, Any], runs_parent_dir: str | Path | None = None, *, tag: str, **arguments: Any
    ) -> Self:
        """Begins a run in a directory of this name, or goes on with it from its newest whole checkpoint.

        The same program may be started again and again, as by a cluster that requeues a job: it begins the run once,
        goes on with it after it was killed or stopped at any moment, and trains nothing once its epochs are done. If it
        is started twice at once, one trains, and the other raises an error that names its process.

        Args:
            config: The config dictionary. For a run that was begun, the rules of resuming hold: some keys may change,
                such as ``num_epochs``, and any other change is an error.
            runs_parent_dir: The folder of all run directories; None means ``runs`` in the current folder.
            tag: The name of the run directory in it, of ASCII letters, digits, ``.``, ``_`` and ``-``.
            **arguments: Additional arguments of the constructor.

        Returns:
            A session. Call it to train. Its directory isn't removed, even if it is never called.

        Raises:
            ConfigError: If the config has errors, or differs from that of the run in keys that may not change.
            RunDirectoryError: If the tag can't name a directory, or names something else than a run of this session
                class. If the directory can't be made, opened or locked.
        """
        parent = runs_parent_dir if runs_parent_dir is not None else DEFAULT_PARENT
        with errors_for_torchrun():
            tell_result(join(), partial(_check_can_begin_or_resume, cls, parent, tag), "the check of the run's name")
        make = cast("Callable[..., Self]", cls)
        return make(
            config, runs_parent_dir=runs_parent_dir, create_run_dir_afresh=None, source_run_dir_tag=tag, **arguments
        )


def _check_can_begin_or_resume(session_class: type, parent: str | Path, tag: str) -> None:
    path = checked_path(parent, tag)
    saved = _saved_class(path)
    name = saved.get("class", session_class.__qualname__)
    if name != session_class.__qualname__:
        raise RunDirectoryError(
            f"The run {path} was begun with the session class {name}, of {saved.get('file') or 'a program'}, and can't "
            f"go on with {session_class.__qualname__}. To fix, pass another tag. If the class was renamed, call "
            f"{session_class.__name__}.resume({str(path.parent)!r}, {tag!r}) once."
        )


def _saved_class(run_directory: Path) -> dict[str, Any]:
    """Returns what a run has saved of its session class; nothing if it hasn't been begun."""
    files = snapshots(run_directory, "environment")
    try:
        return (read_json(files[-1])["session"] or {}) if files else {}
    except (RunDirectoryError, KeyError, TypeError) as error:  # damaged, or written by a program of somebody else
        _logger.warning("%s can't be read, so the session class of the run isn't checked: %r", files[-1], error)
        return {}
