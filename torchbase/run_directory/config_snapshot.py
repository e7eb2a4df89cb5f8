"""The config that a run directory keeps, and in what another may differ from it when the run goes on."""

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
        "seed",  # a resumed run keeps its own, and one that contradicts it is refused where it is chosen
    )
)


def newest_config(run_directory: Path) -> dict[str, Any] | None:
    """Reads the config that a run was begun, or last resumed, with.

    Args:
        run_directory: The path of the run directory.

    Returns:
        The config in JSON form; None where the run was ended before it was kept.

    Raises:
        RunDirectoryError: If it can't be read.
    """
    later = sorted(run_directory.glob("config_*.json"))  # their names hold the time
    file = later[-1] if later else run_directory / CONFIG_FILE
    if not file.exists():
        return None
    config: dict[str, Any] = read_json(file)
    return config


def newest_run(parent: Path) -> str:
    """Finds the newest run that kept its config.

    Args:
        parent: The folder of all run directories.

    Returns:
        Its tag.

    Raises:
        RunDirectoryError: If there is none.
    """
    with os_errors_explained("list", parent):
        tags = sorted(path.parent.name for path in parent.glob(f"*/{CONFIG_FILE}"))
    if not tags:
        raise RunDirectoryError(
            f"There is no run to go on with in {parent}: no folder in it holds a {CONFIG_FILE}. To fix, give the "
            "folder that the run was begun in."
        )
    return tags[-1]


def config_changes(kept: Mapping[str, Any], config: "Config") -> list[Difference]:
    """Tells in what a config differs from the kept one; a key that is left out counts as its default.

    Args:
        kept: The kept config, in JSON form.
        config: The config of the session that goes on with the run.

    Returns:
        The differences in the order of their paths.
    """
    defaults = {
        name: list(one.default) if isinstance(one.default, tuple) else one.default
        for name, one in type(config.session).model_fields.items()
        if not one.is_required()
    }
    return differences(_filled_in(kept, defaults), _filled_in(config.as_given, defaults))


def check_config(run_directory: Path, config: "Config", allow_changes: bool) -> None:
    """Refuses a config with which the run would become another experiment.

    Args:
        run_directory: The path of the run directory.
        config: The config of the session that goes on with the run.
        allow_changes: Whether any change is taken.

    Raises:
        ConfigError: If something else differs than what may change; it lists each difference.
    """
    kept = newest_config(run_directory)
    if kept is None or allow_changes:
        return
    refused = [one for one in config_changes(kept, config) if one.path not in MAY_CHANGE]
    if refused:
        listed = "\n".join(f"  {one}" for one in refused)
        raise ConfigError(
            f"The config differs from that of the run {run_directory}, so this would be another experiment:\n{listed}\n"
            "To fix, give the kept values (MySession.resume() takes all of them), begin a new run, or allow it with "
            "allow_config_changes=True, which is then recorded in the run directory."
        )


def _filled_in(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    given = {"data": {}, "metrics": {}, **config}
    session = given.get("session")
    return {**given, "session": {**defaults, **session} if isinstance(session, Mapping) else session}
