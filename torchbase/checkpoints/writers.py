"""How a process writes checkpoints in a thread: all of the state, its rows of it, or nothing."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from torchbase.checkpoints.distributed_tensors import distributed_parameter, share_of
from torchbase.checkpoints.finite import check_is_finite
from torchbase.checkpoints.keeping import keep_newest
from torchbase.checkpoints.run_state import can_gather_alone, gather, state_of_loader
from torchbase.checkpoints.saved_tensors import split
from torchbase.checkpoints.storage import write_checkpoint
from torchbase.checkpoints.together import Share, write_together
from torchbase.distributed.done_together import do_together
from torchbase.distributed.processes import Processes
from torchbase.engine.run import Run
from torchbase.engine.training_step import network_of
from torchbase.files.background_writes import BackgroundWrites
from torchbase.files.host_copies import HostCopies
from torchbase.files.nested import Path as PathInState

MAXIMUM_CHECKPOINTS = 2
WRITE_NAME = "checkpoint"
OnError = Literal["raise", "warn"]
MINIMUM_BYTES_TO_RESERVE = 2**20  # for a smaller network the thread costs more time than it saves


class CheckpointWriter(ABC):
    """Writes checkpoints of a run in a thread. All processes of the run have one.

    Attributes:
        needs_others: Whether a checkpoint needs all processes.
    """

    def __init__(self, writes: BackgroundWrites, needs_others: bool) -> None:
        """Sets the background writes of this process.

        Args:
            writes: The background writes.
            needs_others: See the attribute.
        """
        self._writes, self.needs_others = writes, needs_others

    @abstractmethod
    def write(self, run: Run) -> None:
        """Copies what this process saves, and submits the write. All processes call it.

        Args:
            run: The run, between two iterations.

        Raises:
            BaseException: The error of an earlier write.
        """

    @abstractmethod
    def reserve(self, run: Run) -> None:
        """Reserves the memory of the copy in a thread, once the optimizer has a state.

        Args:
            run: The run.
        """

    def check(self) -> None:
        """Raises the error of a failed write; see `torchbase.files.background_writes.BackgroundWrites`."""
        self._writes.check()

    def wait(self) -> None:
        """Waits until all writes of this process are on the disk, and raises their error."""
        self._writes.wait()

    def finish(self) -> None:
        """Waits until all writes of this process are on the disk. Retries those that failed once."""
        self._writes.finish()


class NoWriter(CheckpointWriter):
    """Writes nothing, since the main process does."""

    def __init__(self) -> None:
        """Makes background writes that stay empty."""
        super().__init__(BackgroundWrites(), needs_others=True)

    def write(self, run: Run) -> None:
        """Sends the main process what belongs to this one."""
        state_of_loader(run)

    def reserve(self, run: Run) -> None:
        """Does nothing."""


class WholeWriter(CheckpointWriter):
    """Writes all of the state."""

    def __init__(self, run: Run, folder: Path, writes: BackgroundWrites) -> None:
        """Notes where to write.

        Args:
            run: The run.
            folder: The folder of its checkpoints.
            writes: The background writes.
        """
        super().__init__(writes, needs_others=not can_gather_alone(run))
        self._folder, self._copies = folder, HostCopies()

    def write(self, run: Run) -> None:
        """Copies the state, and submits the write."""
        self._writes.wait(WRITE_NAME)  # the next line overwrites the copies that are being written
        parts = self._copies.of(gather(run))
        epoch, iteration, names = run.epochs_done, run.progress.iterations, _names_of_parameters(run)
        self._writes.submit(WRITE_NAME, partial(_write, self._folder, epoch, iteration, parts, names))

    def reserve(self, run: Run) -> None:
        """Reserves the memory of the copy in a thread."""
        if _is_large(run):
            self._writes.submit(WRITE_NAME, self._copies.reserve(gather(run)))


class ShardedWriter(CheckpointWriter):
    """Writes the rows that this process holds; the main process also writes what is equal on all.

    The threads of all processes work together, so each has to write the same checkpoints in the same order, also after
    errors. Therefore nothing else is among these background writes. The main process waits for other files first.
    """

    def __init__(self, processes: Processes, folder: Path, other: BackgroundWrites | None, on_error: OnError) -> None:
        """Notes where to write.

        Args:
            processes: The processes, for the writing threads alone.
            folder: The folder of the checkpoints, on a file system that all processes share.
            other: The background writes of the files before a checkpoint, on the main process.
            on_error: See `BackgroundWrites`.
        """
        super().__init__(BackgroundWrites(on_error), needs_others=True)
        self._processes, self._folder, self._copies = processes, folder, HostCopies()
        self._other = BackgroundWrites(on_error) if other is None else other
        self._wait_for_other = self._other.until_now()

    def write(self, run: Run) -> None:
        """Copies the rows of this process, and submits the write."""
        self._writes.wait(WRITE_NAME)  # the copies that are being written are overwritten below
        share = self._share_of(run)
        parts, rows = self._copies.of(_tensors_of(share))
        copied = Share(parts, {path: replace(piece, rows=rows[path]) for path, piece in share.pieces.items()})
        self._other.retry()
        self._wait_for_other = self._other.until_now()
        position = run.epochs_done, run.progress.iterations
        self._writes.submit(WRITE_NAME, partial(self._write, *position, copied, _names_of_parameters(run)))
        self._other.submit(WRITE_NAME, self._writes.join)  # who waits for the other files waits for the checkpoint, too

    def reserve(self, run: Run) -> None:
        """Reserves the memory of the copy in a thread."""
        if _is_large(run):
            self._writes.submit(WRITE_NAME, self._copies.reserve(_tensors_of(self._share_of(run))))

    def check(self) -> None:
        """Raises the error of a failed write of this process."""
        self._other.check()
        self._writes.check()

    def wait(self) -> None:
        """Waits until all writes of this process are on the disk, and raises their error."""
        self._other.wait()
        self._writes.wait()

    def finish(self) -> None:
        """Waits until all writes of this process are on the disk. Retries those that failed once."""
        self._other.finish()
        self._wait_for_other = self._other.until_now()
        self._writes.finish()

    def _share_of(self, run: Run) -> Share:
        parts, pieces = split(gather(run), share_of)
        return Share(parts if self._processes.is_main else {}, pieces)

    def _write(self, epoch: int, iteration: int, share: Share, names: list[str]) -> None:
        rows = {path[-1]: piece.rows for path, piece in share.pieces.items() if path[:-1] == ("network",)}
        here = {**share.parts.get("network", {}), **rows}

        def check() -> None:
            self._wait_for_other()
            check_is_finite({name: here[name] for name in names if here.get(name) is not None})

        do_together(self._processes, check, "the check of a checkpoint")
        written = write_together(self._processes, self._folder, epoch, iteration, share)
        if self._processes.is_main:
            keep_newest(self._folder, MAXIMUM_CHECKPOINTS, whole=written)


def writer_of(run: Run) -> CheckpointWriter | None:
    """Returns the writer of this process; None if the run has no run directory. All processes have to call it.

    Args:
        run: The run.

    Raises:
        ProcessError: If another process has ended or doesn't answer.
    """
    directory = run.run_directory
    if run.processes.count == 1:
        return None if directory is None else WholeWriter(run, directory.states, directory.writes)
    here = None if directory is None else (directory.states, directory.writes.on_error)
    told = run.processes.tell(here, "the folder of the checkpoints")
    if told is None:
        return None
    folder, on_error = told
    if distributed_parameter(run.optimizer) is not None:
        other = None if directory is None else directory.writes
        return ShardedWriter(run.processes.for_another_thread(), folder, other, on_error)
    return NoWriter() if directory is None else WholeWriter(run, folder, directory.writes)


def _tensors_of(share: Share) -> tuple[Any, dict[PathInState, torch.Tensor]]:
    return share.parts, {path: piece.rows for path, piece in share.pieces.items()}


def _is_large(run: Run) -> bool:
    size = sum(parameter.nbytes for parameter in network_of(run).parameters())
    return size > MINIMUM_BYTES_TO_RESERVE and can_gather_alone(run)


def _names_of_parameters(run: Run) -> list[str]:
    return [name for name, _ in network_of(run).named_parameters(remove_duplicate=False)]


def _write(folder: Path, epoch: int, iteration: int, parts: Mapping[str, Any], names: list[str]) -> None:
    check_is_finite({name: parts["network"][name] for name in names if name in parts["network"]})
    written = write_checkpoint(folder, epoch, iteration, parts)
    keep_newest(folder, MAXIMUM_CHECKPOINTS, whole=written)
