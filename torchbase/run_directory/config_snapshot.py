"""The snapshot of the config in a run directory, and which keys may change when the run is resumed."""

import os
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torchbase.errors import ConfigError
from torchbase.files.durable import read_json
from torchbase.files.json_values import Difference, differences

if TYPE_CHECKING:
    from torchbase.run_directory.config import Config

Kind = Literal["config", "environment"]

CONFIG_FILE = "config.json"
# Ordered by the number, since a clock may be set back.
_SNAPSHOT = re.compile(r"(?:config|environment)(?:_(?:([0-9]{6,})_)?[0-9]{4}-[0-9]{2}-[0-9]{2}.*)?\.json")
MAY_CHANGE = frozenset(
    f"session.{name}"
    for name in (
        "num_epochs",
        "num_iterations",
        "device_name",
        "dataloader_num_workers",
        "distributed",
        "checkpoint_every_n_iterations",
        "checkpoint_every_seconds",
        "on_checkpoint_error",
        "on_logging_error",
        "nan_policy",
        "preemption_signal",
        "log_every_n_iterations",
        "metrics_every_n_iterations",
        "group",
        # A resumed run uses its own; a different one raises an error where it is chosen.
        "seed",
        "mini_batch_parts",
    )
)


def newest_config(run_directory: Path) -> dict[str, Any] | None:
    """Reads the config with which a run was started or last resumed.

    Args:
        run_directory: The path of the run directory.

    Returns:
        The config in JSON form; None if the run ended before its config was saved.

    Raises:
        RunDirectoryError: If it can't be read.
    """
    files = snapshots(run_directory, "config")
    if not files:
        return None
    config: dict[str, Any] = read_json(files[-1])
    return config


def snapshots(run_directory: Path, kind: Kind) -> list[Path]:
    """Lists the snapshots of a run: that of its start, and those that it added when it was resumed.

    Args:
        run_directory: The path of the run directory.
        kind: The kind of the snapshots.

    Returns:
        ``KIND.json``, if it exists, and each ``KIND_NUMBER_TIME.json``, in the order in which they were written.
    """
    try:
        names = [name for name in os.listdir(run_directory) if name.startswith(kind)]  # in a tenth of the time of glob
    except (FileNotFoundError, NotADirectoryError, PermissionError):  # reading a file of the directory says so
        return []
    files = [run_directory / name for name in names]
    numbers = {file: number for file in files if (number := _number_of(file)) is not None}
    return sorted(numbers, key=lambda file: (numbers[file], file.stem))


def added_snapshot(run_directory: Path, kind: Kind) -> Path:
    """Returns the path of a snapshot that a run adds when it is resumed.

    Args:
        run_directory: The path of the run directory.
        kind: The kind of the snapshot.
    """
    latest = max((_number_of(file) or 0 for file in snapshots(run_directory, kind)), default=0)
    return run_directory / f"{kind}_{latest + 1:06d}_{datetime.now():%Y-%m-%d_%H-%M-%S-%f}.json"


def _number_of(file: Path) -> int | None:
    found = _SNAPSHOT.fullmatch(file.name)
    return None if found is None else int(found[1] or 0)


def config_changes(snapshot: Mapping[str, Any], config: "Config") -> list[Difference]:
    """Compares a config with the snapshot of a run. A missing key counts as its default.

    Args:
        snapshot: The saved config, in JSON form.
        config: The config of the session that resumes the run.

    Returns:
        The differences in the order of their paths.
    """
    defaults = {
        name: list(one.default) if isinstance(one.default, tuple) else one.default
        for name, one in type(config.session).model_fields.items()
        if not one.is_required()
    }
    return differences(_with_defaults(snapshot, defaults), _with_defaults(config.as_given, defaults))


def check_config(run_directory: Path, config: "Config", allow_changes: bool) -> None:
    """Raises an error for a config with which the resumed run would be another experiment.

    Args:
        run_directory: The path of the run directory.
        config: The config of the session that resumes the run.
        allow_changes: Whether all changes are allowed.

    Raises:
        ConfigError: If a key differs that may not change. The message lists all of these.
    """
    snapshot = newest_config(run_directory)
    if snapshot is None or allow_changes:
        return
    refused = [one for one in config_changes(snapshot, config) if one.path not in MAY_CHANGE]
    if refused:
        listed = "\n".join(f"  {one}" for one in refused)
        raise ConfigError(
            f"The config differs from that of the run {run_directory}, so this would be another experiment:\n{listed}\n"
            "To fix, pass the saved values (MySession.resume() uses all of them), start a new run, or pass "
            "allow_config_changes=True, which records the changes in the run directory."
        )


def _with_defaults(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    sections = {"data": {}, "metrics": {}, **config}
    session = sections.get("session")
    return {**sections, "session": {**defaults, **session} if isinstance(session, Mapping) else session}
