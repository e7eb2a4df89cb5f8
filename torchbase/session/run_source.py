"""Where the run directory of a session comes from: a new one, or that of an earlier run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from torchbase.checkpoints.storage import has_results, newest_whole_checkpoint
from torchbase.errors import CheckpointError, ConfigError, RunDirectoryError
from torchbase.files.durable import read_json, remove_leftovers
from torchbase.files.tensors import check_tensors, read_tensors
from torchbase.hooks.seed_capture import SEEDS_FILE
from torchbase.randomness import draw_seed
from torchbase.run_directory.config_snapshot import newest_config, newest_run
from torchbase.run_directory.directory import RunDirectory
from torchbase.run_directory.names import NETWORK_FILE

DEFAULT_PARENT = "runs"


@dataclass(frozen=True)
class Runs:
    """Which run directory a session writes, and which run it comes from.

    Attributes:
        parent: The folder of all run directories; ``runs`` in the current folder without one.
        afresh: Whether the session makes a run directory of its own.
        source_tag: The run to go on with, or to take the network of.
        source_network: Which network of it: the best one, or that of its newest checkpoint.
        postfix: What to append to the name of a new run directory.
    """

    parent: str | Path | None
    afresh: bool
    source_tag: str | None
    source_network: Literal["best", "last"]
    postfix: str | None

    def open(self) -> RunDirectory:
        """Makes or opens the run directory, and locks it.

        Returns:
            The run directory.

        Raises:
            RunDirectoryError: If it can't be made, found or locked, or the arguments contradict each other.
        """
        if self.source_network not in ("best", "last"):
            raise RunDirectoryError(f"source_network has to be 'best' or 'last', and is {self.source_network!r}.")
        parent = self.parent if self.parent is not None else DEFAULT_PARENT
        if self.afresh:
            if self.source_tag is not None:
                RunDirectory.open(parent, self.source_tag)
            directory = RunDirectory.create(parent, self.postfix)
        elif self.source_tag is None:
            raise RunDirectoryError(
                "create_run_dir_afresh=False goes on with an earlier run, and none was named. To fix, give "
                "source_run_dir_tag, the name of its folder."
            )
        elif self.postfix is not None:
            raise RunDirectoryError(
                f"tag_postfix='{self.postfix}' names a new run directory, and create_run_dir_afresh=False makes none. "
                "To fix, leave out one of them."
            )
        else:
            directory = RunDirectory.open(parent, self.source_tag)
        directory.lock()
        remove_leftovers(directory.path)
        remove_leftovers(directory.states)
        return directory

    def load_source_network(self, network: torch.nn.Module) -> None:
        """Gives the network of a new run the weights of the run it begins with, if one was named.

        Args:
            network: The network, as the user's ``init_network`` gave it.

        Raises:
            CheckpointError: If the source run kept no network, or another one.
            RunDirectoryError: If the kept network is damaged.
        """
        if not self.afresh or self.source_tag is None:
            return
        source = RunDirectory.open(self.parent if self.parent is not None else DEFAULT_PARENT, self.source_tag)
        best = source.path / NETWORK_FILE
        if self.source_network == "best" and best.exists():
            check_tensors(best)
            state = read_tensors(best)
        else:
            saved = newest_whole_checkpoint(source.states)
            if saved is None:
                raise CheckpointError(f"The run {source.path} has kept no network to begin with.")
            state = saved.parts["network"]
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            raise CheckpointError(
                f"The network kept in {source.path} doesn't fit {type(network).__name__}: {error}. "
                "To fix, give config['network'] the values of that run."
            ) from error


def find_run(parent: str | Path | None, tag: str | None) -> Path:
    """Finds the directory of a run that is to go on.

    Args:
        parent: The folder of all run directories; ``runs`` in the current folder without one.
        tag: Its name; without one the newest run that kept its config.

    Returns:
        The path of the run directory.

    Raises:
        RunDirectoryError: If there is none.
    """
    parent = Path(parent if parent is not None else DEFAULT_PARENT)
    return RunDirectory.open(parent, tag if tag is not None else newest_run(parent)).path


def saved_config(run_directory: Path) -> dict[str, Any]:
    """Reads the config that a run kept.

    Args:
        run_directory: The path of the run directory.

    Returns:
        The config in JSON form.

    Raises:
        RunDirectoryError: If it kept none.
    """
    config = newest_config(run_directory)
    if config is None:
        raise RunDirectoryError(
            f"The run {run_directory} was ended before it kept its config, so there is nothing to go on with. To fix, "
            "begin a new run."
        )
    return config


def choose_seed(given: int | None, run_directory: RunDirectory, allow_change: bool = False) -> int:
    """Chooses the seed of a run.

    Args:
        given: The seed of the config, if any.
        run_directory: The run directory; a run that goes on keeps its seed.
        allow_change: Whether a run that goes on takes another seed.

    Returns:
        The seed.

    Raises:
        ConfigError: If the config's seed isn't that of the run that goes on.
        RunDirectoryError: If a run that has kept something lacks its seed.
    """
    file = run_directory.path / SEEDS_FILE
    if run_directory.is_new or not file.exists():
        if has_results(run_directory.path):
            raise RunDirectoryError(f"{file} is missing, and without the seed the run can't go on. Restore it.")
        return given if given is not None else draw_seed()
    kept = int(read_json(file)["seed"])
    if given is not None and given != kept:
        if allow_change:
            return given
        raise ConfigError(
            f"session.seed is {given}, and the run {run_directory.path} was begun with {kept}. To fix, give that one, "
            "or none."
        )
    return kept
