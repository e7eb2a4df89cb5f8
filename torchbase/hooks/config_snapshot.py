"""Keeps the config and the environment of a run in its directory."""

import logging
from datetime import datetime
from typing import TYPE_CHECKING

from torchbase.durable_files import read_json, write_json
from torchbase.environment import describe_environment
from torchbase.hookspecs import hookimpl
from torchbase.json_values import differences
from torchbase.run_directory import RunDirectory

if TYPE_CHECKING:
    from torchbase.config import Config

logger = logging.getLogger("torchbase")

CONFIG_FILE = "config.json"
ENVIRONMENT_FILE = "environment.json"


class ConfigSnapshot:
    """Writes ``config.json`` and ``environment.json``; a run that is resumed adds its own beside them."""

    @hookimpl
    def on_setup_start(self, run_directory: RunDirectory, config: "Config", resuming: bool) -> None:
        """Writes both files, and says in what a resumed run's config differs."""
        config_file, environment_file = CONFIG_FILE, ENVIRONMENT_FILE
        if resuming:
            time_tag = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
            config_file, environment_file = f"config_{time_tag}.json", f"environment_{time_tag}.json"
            for difference in differences(read_json(run_directory.file(CONFIG_FILE)), config.as_given):
                logger.warning("The config differs from the run that is resumed: %s", difference)
        write_json(run_directory.file(config_file), config.as_given)
        write_json(run_directory.file(environment_file), describe_environment())
