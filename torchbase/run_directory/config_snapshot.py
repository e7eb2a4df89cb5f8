"""The snapshot of the config in a run directory, and which keys may change when the run is resumed."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchbase.errors import ConfigError, RunDirectoryError
from torchbase.files.durable import os_errors_explained, read_json
from torchbase.files.json_values import Difference, differences

if TYPE_CHECKING:
    from torchbase.run_directory.config import Config

CONFIG_FILE = "config.json"
MAY_CHANGE = frozenset(
    f"session.{name}"
    for name in (
        "num_epochs",
        "device_name",
        "dataloader_num_workers",
        "checkpoint_every_n_iterations",
        "checkpoint_every_seconds",
        "on_checkpoint_error",
        "on_logging_error",
        "nan_policy",
        "log_every_n_iterations",
        "metrics_every_n_iterations",
        "seed",  # a resumed run uses its own seed; a different seed raises an error where the seed is chosen
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
    later = sorted(run_directory.glob("config_*.json"))  # sorted by the time in their names
    file = later[-1] if later else run_directory / CONFIG_FILE
    if not file.exists():
        return None
    config: dict[str, Any] = read_json(file)
    return config


def newest_run(parent: Path) -> str:
    """Finds the newest run that saved its config.

    Args:
        parent: The folder of all run directories.

    Returns:
        The tag of the run.

    Raises:
        RunDirectoryError: If there is none.
    """
    with os_errors_explained("list", parent):
        tags = sorted(path.parent.name for path in parent.glob(f"*/{CONFIG_FILE}"))
    if not tags:
        raise RunDirectoryError(
            f"There is no run to resume in {parent}: no folder in it holds a {CONFIG_FILE}. To fix, pass the folder in "
            "which the run was started."
        )
    return tags[-1]


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
