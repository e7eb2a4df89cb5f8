"""The source of a session's run directory, first weights and seed: new, or those of an earlier run."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torchbase.checkpoints.listing import has_results
from torchbase.errors import ConfigError, RunDirectoryError
from torchbase.files.durable import read_json, remove_leftovers
from torchbase.hooks.mini_batch_parts import PARTS_FILE
from torchbase.hooks.seed_capture import SEEDS_FILE
from torchbase.randomness.seeds import draw_seed
from torchbase.run_directory.config_snapshot import newest_config
from torchbase.run_directory.directory import RunDirectory
from torchbase.run_directory.named import open_or_make
from torchbase.run_directory.newest import newest_run
from torchbase.session.first_weights import SourceNetwork, check_is_source

if TYPE_CHECKING:
    from torchbase.run_directory.session_config import SessionConfig

DEFAULT_PARENT = "runs"


@dataclass(frozen=True)
class RunSource:
    """The run directory of a session, and the earlier run that it resumes or starts from.

    Attributes:
        parent: The folder of all run directories; None means ``runs`` in the current folder.
        is_new: Whether the session makes a new run directory. None if it makes one that is named by the tag, unless it
            is there already.
        tag: The run to resume, or to take the network of.
        network: The network of that run to start from: the best one, or that of its newest checkpoint.
        postfix: A text to append to the name of a new run directory.
        strict: Whether the network of that run has to match that of the new run.
    """

    parent: str | Path | None
    is_new: bool | None
    tag: str | None
    network: Literal["best", "last"]
    postfix: str | None
    strict: bool = True

    @property
    def path_of_run(self) -> Path:
        """The path of the run that is named by ``tag``, whether it exists or not."""
        return Path(self.parent if self.parent is not None else DEFAULT_PARENT, self.tag or "").absolute()

    def open(self) -> RunDirectory:
        """Makes or opens the run directory, and locks it.

        Returns:
            The run directory.

        Raises:
            RunDirectoryError: If it can't be made, found or locked, or if the arguments contradict each other.
        """
        check_is_source(self.network, self.strict)
        parent = self.parent if self.parent is not None else DEFAULT_PARENT
        if not self.strict and self.is_new is not None and self.of_network is None:
            raise RunDirectoryError(
                "source_strict=False chooses what a new run takes of the network of another run, and "
                f"{'no other run was named' if self.is_new else 'a resumed run takes nothing'}. To fix, omit it"
                f"{', or pass source_run_dir_tag' if self.is_new else ''}."
            )
        if self.is_new:
            if self.tag is not None:
                RunDirectory.open(parent, self.tag)
            directory = RunDirectory.create(parent, self.postfix)
        elif self.tag is None:
            raise RunDirectoryError(
                f"create_run_dir_afresh={self.is_new} resumes an earlier run, and no run was named. To fix, pass "
                "source_run_dir_tag, the name of its folder."
            )
        elif self.postfix is not None:
            raise RunDirectoryError(
                f"tag_postfix='{self.postfix}' names a new run directory, and create_run_dir_afresh={self.is_new} "
                "makes none of such a name. To fix, omit one of them."
            )
        elif self.is_new is None:
            if self.network != "best" or not self.strict:
                chosen = "source_strict=False" if not self.strict else f"source_network={self.network!r}"
                raise RunDirectoryError(
                    f"{chosen} chooses a network of another run, and a run that is begun or resumed by its name starts "
                    "from none. To fix, omit it, and load the weights in load_pretrained."
                )
            directory = open_or_make(parent, self.tag)
        else:
            directory = RunDirectory.open(parent, self.tag)
        directory.lock()
        remove_leftovers(directory.path)
        remove_leftovers(directory.states)
        return directory

    def resumes(self, directory: RunDirectory) -> bool:
        """Whether the session goes on with an earlier run.

        Args:
            directory: The run directory, which this session has locked.
        """
        return newest_config(directory.path) is not None if self.is_new is None else not self.is_new

    @property
    def of_network(self) -> SourceNetwork | None:
        """The network of another run from which the run starts; None without one."""
        if not self.is_new or self.tag is None:
            return None
        return SourceNetwork(self.path_of_run.name, self.network, self.strict)


def find_run(parent: str | Path | None, tag: str | None) -> Path:
    """Finds the directory of a run to resume.

    Args:
        parent: The folder of all run directories; None means ``runs`` in the current folder.
        tag: The name of the run directory; None means the newest run; see `newest_run`.

    Returns:
        The path of the run directory.

    Raises:
        RunDirectoryError: If there is none.
    """
    parent = Path(parent if parent is not None else DEFAULT_PARENT)
    return RunDirectory.open(parent, tag if tag is not None else newest_run(parent, has_results)).path


def saved_config(run_directory: Path) -> dict[str, Any]:
    """Reads the config that a run saved.

    Args:
        run_directory: The path of the run directory.

    Returns:
        The config in JSON form.

    Raises:
        RunDirectoryError: If the run saved none.
    """
    config = newest_config(run_directory)
    if config is None:
        raise RunDirectoryError(
            f"The run {run_directory} ended before its config was saved, so it can't be resumed. To fix, start a new "
            "run."
        )
    return config


def choose_parts(config: "SessionConfig", source: RunSource, processes: int, allow_change: bool = False) -> int:
    """Chooses in how many parts each mini-batch is computed.

    Args:
        config: The section ``session`` of the config.
        source: The run directory. A resumed run keeps its number of parts, whatever the number of processes.
        processes: The number of processes that share the parts.
        allow_change: Whether a resumed run may use another number.

    Returns:
        The number that the config has or the run was begun with; by default, the number of processes.

    Raises:
        ConfigError: If the number isn't that of the resumed run, if there are more processes than parts, or if a
            mini-batch has fewer samples than parts.
        RunDirectoryError: If the number that the run has saved can't be read.
    """
    saved = None if source.is_new or source.tag is None else _saved_parts(source.path_of_run)
    parts = config.mini_batch_parts or saved or processes
    if saved is not None and parts != saved and not allow_change:
        raise ConfigError(
            f"session.mini_batch_parts is {parts}, and the run {source.path_of_run} computes each mini-batch in "
            f"{_counted(saved, 'part')}, so this would be another experiment. To fix, pass {saved}, or None."
        )
    if processes > parts and saved is not None and config.mini_batch_parts is None:
        if allow_change:
            return processes
        raise ConfigError(
            f"The run {source.path_of_run} computes each mini-batch in {_counted(saved, 'part')}, as it was begun, so "
            f"{processes} processes can't share them. To fix, resume it on at most {_counted(saved, 'process')}, or "
            "begin a new run, with session.mini_batch_parts."
        )
    if processes > parts:
        raise ConfigError(
            f"session.mini_batch_parts is {parts}, so {processes} processes can't share the parts of a mini-batch. To "
            f"fix, start at most {parts} processes, or set it to at least {processes}."
        )
    for key in ("mini_batch_size", "validation_mini_batch_size"):
        size = getattr(config, key)
        if size is not None and size < parts:
            raise ConfigError(
                f"session.{key} is {size}, so a mini-batch can't be computed in {parts} parts, of which {processes} "
                f"processes share {'one each' if parts == processes else 'all'}. To fix, start fewer processes, or "
                "choose larger mini-batches."
            )
    return parts


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 'es' if noun.endswith('s') else 's'}"


def _saved_parts(run_directory: Path) -> int | None:
    """Returns the number of parts of a run; None if there is no such run yet."""
    file = run_directory / PARTS_FILE
    if file.exists():
        return int(read_json(file)["mini_batch_parts"])
    config = newest_config(run_directory)
    return None if config is None else config["session"].get("mini_batch_parts") or 1


def choose_seed(configured: int | None, run_directory: RunDirectory, allow_change: bool = False) -> int:
    """Chooses the seed of a run.

    Args:
        configured: The seed in the config; None without one.
        run_directory: The run directory. A resumed run keeps its seed.
        allow_change: Whether a resumed run may use another seed.

    Returns:
        The seed.

    Raises:
        ConfigError: If the seed in the config isn't that of the resumed run.
        RunDirectoryError: If a run with results lacks its seed.
    """
    file = run_directory.path / SEEDS_FILE
    if run_directory.is_new or not file.exists():
        if has_results(run_directory.path):
            raise RunDirectoryError(
                f"{file} is missing, and the run can't be resumed without its seed. To fix, restore it."
            )
        return configured if configured is not None else draw_seed()
    saved = int(read_json(file)["seed"])
    if configured is not None and configured != saved:
        if allow_change:
            return configured
        raise ConfigError(
            f"session.seed is {configured}, and the run {run_directory.path} was started with {saved}. To fix, pass "
            "that seed, or none."
        )
    return saved
