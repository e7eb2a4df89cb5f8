"""The files of several best networks: listed once they are whole, and removed once no checkpoint needs them."""

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch

from torchbase.checkpoints.listing import newest_progress
from torchbase.files.durable import make_folder, os_errors_explained, remove_durably, remove_leftovers
from torchbase.files.host_copies import HostCopies
from torchbase.files.tensors import write_tensors
from torchbase.run_directory.best_networks import BestNetworks, SavedBest, write_best_networks
from torchbase.run_directory.directory import RunDirectory
from torchbase.run_directory.names import BEST_NETWORKS_FOLDER

logger = logging.getLogger("torchbase")

_NAME = re.compile(r"epoch-[0-9]{6,}-iteration-[0-9]{10,}-.+\.pth")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


class Position(NamedTuple):
    """A position in a run, in the order of training.

    Attributes:
        iterations: The number of finished training iterations.
        epochs: The number of finished epochs.
    """

    iterations: int
    epochs: int


class _Superseded(NamedTuple):
    """A file that is no longer listed, and the checkpoints that may still list it.

    Attributes:
        since: The position at which another network took its place.
        is_saved: Whether there was a checkpoint of this position already.
    """

    since: Position
    is_saved: bool


def name_of(epoch: int, iteration: int, monitor: str, value: float) -> str:
    """Returns the name of the file of a network, in the run directory.

    Args:
        epoch: The epoch.
        iteration: The number of finished training iterations.
        monitor: The name of the value by which it was chosen.
        value: The value.
    """
    described = _NOT_IN_NAMES.sub("-", f"{monitor}-{value:.6g}")
    return f"{BEST_NETWORKS_FOLDER}/epoch-{epoch:06d}-iteration-{iteration:010d}-{described}.pth"


class BestFiles:
    """The files of the best networks in a run directory. A thread writes them, in the order of all writes of the run.

    A network is listed once it is on the disk. One that is no longer listed stays until the newest checkpoint is of a
    later position, since a run that is killed resumes from there with the list of then.
    """

    def __init__(self, directory: RunDirectory) -> None:
        """Notes where the files are.

        Args:
            directory: The run directory.
        """
        self._directory, self._folder = directory, directory.path / BEST_NETWORKS_FOLDER
        self._copies = HostCopies()
        self._last_write, self._is_written = "", True
        self._superseded: dict[str, _Superseded] = {}

    def begin(self, best: BestNetworks, surplus: Sequence[SavedBest], now: Position) -> tuple[SavedBest, ...]:
        """Brings the files in line with the list of a run that begins or resumes.

        Args:
            best: The networks that the run has saved, according to the checkpoint from which it resumes.
            surplus: Those that the checkpoint lists beside them.
            now: The position of the run.

        Returns:
            The networks whose files are there.

        Raises:
            RunDirectoryError: If the operating system reports an error.
        """
        there = tuple(one for one in best.networks if (self._directory.path / one.file).exists())
        for one in best.networks:
            if one not in there:
                logger.warning("%s is missing in %s, so it is no longer listed.", one.file, self._directory.path)
        self._superseded = {one.file: _Superseded(now, is_saved=True) for one in surplus}
        if self._folder.exists():
            remove_leftovers(self._folder)
            listed = {one.file for one in (*there, *surplus)}
            with os_errors_explained("list", self._folder):
                names = [path.name for path in self._folder.iterdir() if _NAME.fullmatch(path.name)]
            for name in names:
                if f"{BEST_NETWORKS_FOLDER}/{name}" not in listed:
                    remove_durably(self._folder / name)
            write_best_networks(self._directory.path, replace(best, networks=there))
        return there

    def copy(self, network: torch.nn.Module) -> Any:
        """Copies a network to the host.

        Args:
            network: The network.

        Returns:
            What its ``state_dict`` returns.

        Raises:
            BaseException: The error of an earlier write.
        """
        self._directory.writes.wait(self._last_write)  # the next lines overwrite the copy that is being written
        if not self._is_written:  # the disk was full, and the write will be tried again
            self._copies = HostCopies()
        return self._copies.of(network.state_dict())

    def submit(
        self, saved: SavedBest, network: Any, best: BestNetworks, dropped: Sequence[SavedBest], now: Position
    ) -> None:
        """Submits the write of a network.

        Args:
            saved: Its entry in the list.
            network: The copy of its state.
            best: The list with it.
            dropped: The networks that it drives out of the list.
            now: The position of the run.

        Raises:
            BaseException: The error of an earlier write.
        """
        self._is_written, self._last_write = False, f"best network {saved.file}"
        write = partial(self._write, saved, network, best, dropped, now)
        self._directory.writes.submit(self._last_write, write)

    def end(self) -> None:
        """Waits until everything is on the disk, and removes what no checkpoint needs.

        Raises:
            BaseException: The error of a write.
        """
        self._directory.writes.finish()
        self._remove_superseded()

    def wait(self) -> None:
        """Waits until the networks are on the disk.

        Raises:
            BaseException: The error of a write.
        """
        self._directory.writes.wait(self._last_write)

    def _write(
        self, saved: SavedBest, network: Any, best: BestNetworks, dropped: Sequence[SavedBest], now: Position
    ) -> None:
        make_folder(self._folder)
        self._remove_superseded()
        write_tensors(self._directory.path / saved.file, network)
        write_best_networks(self._directory.path, best)
        is_saved = self._newest_checkpoint() == now
        self._superseded.update({one.file: _Superseded(now, is_saved) for one in dropped})
        self._is_written = True

    def _remove_superseded(self) -> None:
        newest = self._newest_checkpoint()
        for file, superseded in list(self._superseded.items()):
            is_later = newest is None or newest > superseded.since
            if is_later or (newest == superseded.since and not superseded.is_saved):
                path = self._directory.path / file
                if path.exists():
                    remove_durably(path)
                del self._superseded[file]

    def _newest_checkpoint(self) -> Position | None:
        progress = newest_progress(self._directory.states)
        return None if progress is None else Position(iterations=progress[1], epochs=progress[0])
