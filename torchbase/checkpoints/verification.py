"""Verification of a run directory: whether its files are whole, and training from a checkpoint is repeatable."""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torchbase.checkpoints.listing import list_checkpoints
from torchbase.checkpoints.muted_backends import HasHooks, mute_backends
from torchbase.checkpoints.run_state import gather
from torchbase.checkpoints.storage import check_checkpoint
from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.errors import CheckpointError, RunDirectoryError
from torchbase.files.bitwise import different_values
from torchbase.files.host_copies import HostCopies
from torchbase.files.tensors import check_tensors
from torchbase.run_directory.config_snapshot import CONFIG_FILE
from torchbase.run_directory.names import BEST_NETWORKS_FOLDER, NETWORK_FILE, STATES_FOLDER


@dataclass(frozen=True)
class Finding:
    """Whether a file or a checkpoint is whole.

    Attributes:
        name: The path within the run directory.
        problem: What is wrong; None for a whole file or checkpoint.
    """

    name: str
    problem: str | None


@dataclass(frozen=True)
class Replay:
    """The result of training twice from the same checkpoint.

    Attributes:
        checkpoint: The name of the checkpoint.
        iterations: Number of training iterations of each training.
        differences: The paths of all values that differ afterwards; empty if both trainings agree bit for bit.
    """

    checkpoint: str
    iterations: int
    differences: tuple[str, ...]


@dataclass(frozen=True)
class Verification:
    """The result of verifying a run directory.

    Attributes:
        run_dir: The path of the run directory.
        findings: The checkpoints, the most advanced first, and the best network, if it exists.
        replay: The result of training twice; None without a replay.
    """

    run_dir: str
    findings: tuple[Finding, ...]
    replay: Replay | None = None

    @property
    def is_good(self) -> bool:
        """Whether everything is whole, and the replay agrees."""
        return all(one.problem is None for one in self.findings) and not (self.replay and self.replay.differences)

    def __str__(self) -> str:
        """The findings, one per line."""
        lines = [f"{one.name}: {'whole' if one.problem is None else one.problem}" for one in self.findings]
        if not any(one.name.startswith(STATES_FOLDER) for one in self.findings):
            lines.append("no checkpoint yet")
        if self.replay is not None:
            lines.append(f"replayed {self.replay.iterations} iterations from {self.replay.checkpoint} twice: ")
            if self.replay.differences:
                lines[-1] += f"{len(self.replay.differences)} values differ"
                lines += [f"  {one}" for one in self.replay.differences]
            else:
                lines[-1] += "they agree bit for bit"
        return "\n".join([self.run_dir, *lines])


class ReplayableSession(HasHooks, Protocol):
    """The part of a session that is needed to train from a checkpoint."""

    def __call__(self) -> object:
        """Trains."""


def verify_run(
    run_dir: Path, replay: int | None = None, reopen: Callable[[Path], ReplayableSession] | None = None
) -> Verification:
    """Checks the manifest of every checkpoint and the checksums of the best networks. It changes nothing.

    Args:
        run_dir: The path of the run directory.
        replay: Number of training iterations to run twice from the newest whole checkpoint, in copies of the run
            directory; None runs none.
        reopen: Called with the path of such a copy. Returns a session that resumes the run in it.

    Returns:
        The result.

    Raises:
        RunDirectoryError: If it isn't the directory of a run.
        CheckpointError: If there is no whole checkpoint to replay from.
        ValueError: If ``replay`` is less than 1.
    """
    if not (run_dir / STATES_FOLDER).is_dir():
        raise RunDirectoryError(
            f"{run_dir} isn't the directory of a run: it has no folder '{STATES_FOLDER}'. To fix, pass the folder that "
            f"holds the run's {CONFIG_FILE}."
        )
    if replay is not None and replay < 1:
        raise ValueError(f"replay={replay}: pass the number of iterations to run, at least 1.")
    findings = [_check(run_dir, path, check_checkpoint) for path in list_checkpoints(run_dir / STATES_FOLDER)]
    whole = [one.name for one in findings if one is not None and one.problem is None]
    networks = [run_dir / NETWORK_FILE, *_networks_kept(run_dir)]
    findings += [_check(run_dir, path, check_tensors) for path in networks]
    found = tuple(one for one in findings if one is not None)
    if replay is None or reopen is None:
        return Verification(str(run_dir), found)
    if not whole:
        raise CheckpointError(f"There is no whole checkpoint in {run_dir} to replay from.")
    first, second = (_train_in_a_copy(run_dir, whole[0], replay, reopen) for _ in range(2))
    differences = tuple(different_values(first, second))
    return Verification(str(run_dir), found, Replay(Path(whole[0]).name, replay, differences))


def _networks_kept(run_dir: Path) -> list[Path]:
    return sorted((run_dir / BEST_NETWORKS_FOLDER).glob("*.pth"))


def _check(run_dir: Path, path: Path, check: Callable[[Path], object]) -> Finding | None:
    problem = None
    try:
        check(path)
    except RunDirectoryError as error:
        problem = str(error)
    # A run that is training meanwhile removes its older checkpoints.
    return Finding(str(path.relative_to(run_dir)), problem) if path.exists() else None


def _train_in_a_copy(
    run_dir: Path, checkpoint: str, iterations: int, reopen: Callable[[Path], ReplayableSession]
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="torchbase-replay-") as parent:
        copy = Path(parent, run_dir.name)
        shutil.copytree(run_dir / checkpoint, copy / checkpoint)
        for file in (*run_dir.glob("*.json"), *(run_dir / STATES_FOLDER).glob("*.json")):
            shutil.copy2(file, copy / file.relative_to(run_dir))
        for network in _networks_kept(run_dir):  # the hook that wrote them only needs to find them
            (copy / BEST_NETWORKS_FOLDER).mkdir(exist_ok=True)
            (copy / network.relative_to(run_dir)).touch()
        session = reopen(copy)
        mute_backends(session, "console")
        replaying = _Replaying(iterations)
        session.register(replaying)
        session()
        return replaying.state


class _Replaying:
    """A hook that ends a run after some iterations and stores its state."""

    name = "replaying"

    def __init__(self, iterations: int) -> None:
        self._left = iterations
        self.state: dict[str, Any] = {}

    @hookimpl(tryfirst=True)
    def on_run_start(self, run: Run) -> None:
        run.max_epochs += self._left  # so a finished run trains, too
        run.max_iterations = None

    @hookimpl
    def on_iteration_end(self, run: Run, phase: Phase) -> None:
        self._left -= phase.is_training
        if self._left == 0:
            run.request_stop("replayed")

    @hookimpl
    def on_run_end(self, run: Run) -> None:
        self.state = HostCopies().of(gather(run))
