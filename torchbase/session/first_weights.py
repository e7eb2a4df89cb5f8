"""The weights with which a run starts: those of ``init_network``, of the user's file, or of another run."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from torchbase.checkpoints.listing import list_checkpoints
from torchbase.checkpoints.network_loading import Matching, load_matching, load_network
from torchbase.errors import CheckpointError, RunDirectoryError, list_first
from torchbase.files.durable import read_json, write_json
from torchbase.run_directory.directory import RunDirectory
from torchbase.run_directory.names import NETWORK_FILE
from torchbase.session.pretrained import load_checked
from torchbase.session.saved_network import SavedNetwork, find_saved_network, open_network_file, open_newest_checkpoint

SOURCE_FILE = "source.json"

_logger = logging.getLogger("torchbase")


@dataclass(frozen=True)
class SourceNetwork:
    """The network of another run, from which a new run starts.

    Attributes:
        run: The name of the directory of that run, in the same folder as that of the new run.
        network: The best network, or that of the newest checkpoint.
        strict: Whether it has to match the network of the new run. Otherwise what matches by name and shape is loaded.
    """

    run: str
    network: Literal["best", "last"]
    strict: bool


class FirstWeights:
    """Loads the weights with which a run starts, unless the run has weights of its own."""

    def __init__(self, directory: RunDirectory, source: SourceNetwork | None) -> None:
        """Looks at what the run has saved.

        Args:
            directory: The run directory, which this session has locked.
            source: The network of another run, for a new run. A run that was begun has saved it.
        """
        file = directory.path / SOURCE_FILE
        self._path = directory.path
        self._saved: dict[str, Any] = read_json(file) if source is None and file.exists() else {}
        self._begun_with = SavedNetwork(self._saved["file"], self._saved["checksum"]) if self._saved else None
        if self._saved:
            source = SourceNetwork(**{name: self._saved[name] for name in ("run", "network", "strict")})
        self.source = source
        self._has_checkpoint = bool(list_checkpoints(directory.path / "states"))
        self._has_best = (directory.path / NETWORK_FILE).exists()

    @property
    def are_needed(self) -> bool:
        """Whether the network starts from them. A run of which anything is saved needs no file and no other run."""
        return not self._has_checkpoint and not self._has_best

    def load(self, network: torch.nn.Module, load_pretrained: Callable[[torch.nn.Module], Any] | None) -> None:
        """Loads the weights of the source run; without one, calls the user's method.

        Args:
            network: The network that ``init_network`` returned.
            load_pretrained: Loads the weights of a file; None if the user has no such method.

        Raises:
            CheckpointError: If the source run has saved no network, or one that doesn't match, or another one since
                this run was begun.
            RunDirectoryError: If the saved network is damaged, or there is no such run any more.
            StepError: If ``load_pretrained`` does anything else than loading weights.
        """
        if not self.are_needed:
            return
        if self.source is None:
            if load_pretrained is not None:
                load_checked(network, load_pretrained)
            return
        if load_pretrained is not None:
            _logger.warning(
                "load_pretrained isn't called, since the run starts from the network of %s.",
                self._path.parent / self.source.run,
            )
        saved = self._check_is_unchanged(self.source)
        found = _load(network, self._path.parent / self.source.run, self.source)
        self._saved = {
            **asdict(self.source),
            **saved._asdict(),
            **found._asdict(),
            "other_shape": dict(found.other_shape),
        }

    def save(self, directory: RunDirectory) -> None:
        """Records the source run, and what was taken of it, in ``source.json``.

        Args:
            directory: The run directory.
        """
        if self.source is None or directory.is_discarded:
            return
        content = self._saved or {**asdict(self.source), **self._saved_network_of(self.source)._asdict()}
        file = directory.file(SOURCE_FILE)
        if not file.exists() or read_json(file) != content:
            write_json(file, content)

    def _saved_network_of(self, source: SourceNetwork) -> SavedNetwork:
        return find_saved_network(self._path.parent / source.run, source.network)

    def _check_is_unchanged(self, source: SourceNetwork) -> SavedNetwork:
        saved = self._saved_network_of(source)
        if self._begun_with not in (None, saved):
            path = self._path.parent / source.run
            what = "has saved another network since" if path.is_dir() else "isn't there any more"
            raise CheckpointError(
                f"The run {self._path} began with the {source.network} network of {path}, which {what}, and it ended "
                "before its first checkpoint. To fix, begin a new run."
            )
        return saved

    def check_can_train(self, has_method: bool) -> None:
        """Refuses to train again from the start without the weights with which the run started.

        Args:
            has_method: Whether the user has a method that loads the weights of a file.

        Raises:
            CheckpointError: If the run has its best network, and no checkpoint to resume from.
        """
        if self._has_best and not self._has_checkpoint and (has_method or self.source is not None):
            raise CheckpointError(
                "The run has saved its best network, and no checkpoint to resume from. So it would be trained again "
                "from the start, without the weights with which it started: they aren't loaded for a run that has "
                f"{NETWORK_FILE}. To fix, begin a new run."
            )


def _load(network: torch.nn.Module, path: Path, source: SourceNetwork) -> Matching:
    state = _state_of(RunDirectory.open(path.parent, path.name), source.network)
    if not source.strict:
        return _load_what_matches(network, state, path)
    try:
        load_network(network, state)
    except RuntimeError as error:
        raise CheckpointError(
            f"The network saved in {path} doesn't match {type(network).__name__}: {error}. To fix, set "
            "config['network'] to the values of that run, or pass source_strict=False to load what matches."
        ) from error
    return Matching(taken=list(state))


def _state_of(source: RunDirectory, network: str) -> Mapping[str, Any]:
    if network == "best" and (source.path / NETWORK_FILE).exists():
        return open_network_file(source.path)
    state: Mapping[str, Any] = open_newest_checkpoint(source.path).parts["network"]
    return state


def _load_what_matches(network: torch.nn.Module, state: Mapping[str, Any], path: Path) -> Matching:
    found = load_matching(network, state)
    names = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    if not names & {*found.taken}:
        raise CheckpointError(
            f"The network saved in {path} has no parameter in common with {type(network).__name__}, by name and shape. "
            f"It has {list_first(state)}, and {type(network).__name__} has {list_first(network.state_dict())}. To fix, "
            "check source_run_dir_tag, and the names of the modules."
        )
    parts = {
        "missing in the source": found.missing,
        "left over in the source": found.left_over,
        "of another shape": [f"{name} ({shapes})" for name, shapes in found.other_shape.items()],
    }
    rest = "; ".join(f"{len(one)} {what}: {list_first(one)}" for what, one in parts.items() if one)
    _logger.log(
        logging.WARNING if rest else logging.INFO,
        "Took %d of %d parameters and buffers from the network of %s: %s. Not taken: %s. %s lists all.",
        len(found.taken),
        len(found.taken) + len(found.missing) + len(found.other_shape),
        path,
        list_first(found.taken),
        rest or "none",
        SOURCE_FILE,
    )
    return found


def check_is_source(source_network: object, source_strict: object) -> None:
    """Refuses arguments that choose no network.

    Args:
        source_network: ``"best"`` or ``"last"``.
        source_strict: A bool.

    Raises:
        RunDirectoryError: If they are anything else.
    """
    if source_network not in ("best", "last"):
        raise RunDirectoryError(f"source_network has to be 'best' or 'last', but got {source_network!r}.")
    if not isinstance(source_strict, bool):
        raise RunDirectoryError(f"source_strict has to be True or False, but got {source_strict!r}.")
