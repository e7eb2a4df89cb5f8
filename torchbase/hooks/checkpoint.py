"""Keeps the run on disk, so that it can go on from there."""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch.nn.utils import get_total_norm

from torchbase.checkpoints.run_state import gather, restore
from torchbase.checkpoints.storage import keep_newest, newest_whole_checkpoint, write_checkpoint
from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.engine.training_step import network_of
from torchbase.errors import NonFiniteError, RunDirectoryError
from torchbase.files.host_copies import HostCopies
from torchbase.intervals import Interval
from torchbase.run_directory.directory import RunDirectory

logger = logging.getLogger("torchbase")

CHECKPOINTS_KEPT = 2
WRITE_NAME = "checkpoint"
WITHOUT_RESERVED_MEMORY = 2**20  # bytes of a network for which a thread takes longer than it saves


class Checkpoint:
    """Writes a checkpoint as often as asked, and when the run ends.

    The training waits only for a copy of the state in memory; a thread writes it. At the start of a run it goes on from
    the newest whole checkpoint of the run directory, if there is one.
    """

    def __init__(self, every: str | Interval | Sequence[str | Interval] = ("1ep", "60s")) -> None:
        """Sets how often.

        Args:
            every: One interval or several: ``"1ep"`` is at the end of each epoch, ``"100it"`` behind every 100th
                training iteration of the run, ``"60s"`` behind the first training iteration that ends 60 seconds or
                more after the last checkpoint.

        Raises:
            IntervalError: If one can't be read.
        """
        given = [every] if isinstance(every, str | Interval) else every
        self._every = [Interval.parse(interval) for interval in given]
        self._begun_at = time.monotonic()
        self._kept: tuple[int, int] | None = None
        self._copies = HostCopies()
        self._phases_begun: set[str] = set()
        self._has_memory = False

    # First, so that the other hooks find the run and themselves as they were.
    @hookimpl(tryfirst=True)
    def on_run_start(self, run: Run) -> None:
        """Goes on from the newest whole checkpoint."""
        self._begun_at, self._kept = time.monotonic(), None
        self._phases_begun.clear()
        if run.run_directory is None:
            return
        saved = newest_whole_checkpoint(run.run_directory.states)
        if saved is not None:
            restore(run, saved)
            self._kept = _position(run)
            logger.info("Resumed from %s: %d epochs are done.", saved.path.name, run.epochs_done)

    @hookimpl
    def on_phase_start(self, run: Run, phase: Phase) -> None:
        """Waits for the thread where workers may be forked: a lock that it held then would stay held in them."""
        if run.run_directory is not None and phase.name not in self._phases_begun:
            self._phases_begun.add(phase.name)
            run.run_directory.writes.wait()

    # Last, so that what other hooks do with the iteration is in it.
    @hookimpl(trylast=True)
    def on_iteration_end(self, run: Run, phase: Phase) -> None:
        """Writes a checkpoint when one is due; raises what writing the one before it has raised."""
        if run.run_directory is None:
            return
        run.run_directory.writes.check()
        if phase.is_training and self._is_due(phase.progress.iterations):
            self._write(run, run.run_directory)
        elif not self._has_memory:  # beside the training, and not before the optimizer has a state
            self._has_memory = True
            if sum(one.nbytes for one in network_of(run).parameters()) > WITHOUT_RESERVED_MEMORY:
                run.run_directory.writes.submit(WRITE_NAME, self._copies.reserve(gather(run)))

    @hookimpl(trylast=True)
    def on_epoch_end(self, run: Run) -> None:
        """Writes a checkpoint when one is due."""
        if run.run_directory is not None and any(one.is_due_after(epochs=run.epochs_done) for one in self._every):
            self._write(run, run.run_directory)

    # First: what other hooks do at the end, they do again when the run goes on.
    @hookimpl(tryfirst=True)
    def on_run_end(self, run: Run) -> None:
        """Writes a checkpoint if the last one isn't of now, and waits until everything is on the disk."""
        if run.run_directory is None:
            return
        if self._kept != _position(run):
            self._write(run, run.run_directory)
        run.run_directory.writes.finish()

    # First, before the values that wait to be read are given to the loggers alone.
    @hookimpl(tryfirst=True)
    def on_exception(self, run: Run, error: BaseException) -> None:
        """Keeps the state right before the error where that is known, and waits until it is on the disk."""
        if run.run_directory is None or not isinstance(error, Exception):
            return
        try:
            if run.is_between_iterations and not isinstance(error, NonFiniteError) and self._kept != _position(run):
                self._write(run, run.run_directory)
            run.run_directory.writes.wait()
        except (RunDirectoryError, NonFiniteError) as second:
            if second is not error:
                error.add_note(f"no checkpoint could be written after it: {second}")

    def _is_due(self, iterations: int) -> bool:
        seconds = time.monotonic() - self._begun_at
        return any(
            seconds >= one.count if one.unit == "s" else one.is_due_after(iterations=iterations) for one in self._every
        )

    def _write(self, run: Run, directory: RunDirectory) -> None:
        run.read_values()  # the averages need them, and NaN among them ends the run here
        directory.writes.wait(WRITE_NAME)  # before its copies are overwritten
        parts = self._copies.of(gather(run))
        parameters = [name for name, _ in network_of(run).named_parameters(remove_duplicate=False)]
        write = partial(_write_parts, directory, run.epochs_done, run.progress.iterations, parts, parameters)
        directory.writes.submit(WRITE_NAME, write)
        self._begun_at, self._kept = time.monotonic(), _position(run)


def _write_parts(
    directory: RunDirectory, epoch: int, iteration: int, parts: Mapping[str, Any], parameters: list[str]
) -> None:
    check_is_finite({name: parts["network"][name] for name in parameters if name in parts["network"]})
    written = write_checkpoint(directory.states, epoch, iteration, parts)
    keep_newest(directory.states, CHECKPOINTS_KEPT, whole=written)


def check_is_finite(parameters: Mapping[str, torch.Tensor]) -> None:
    """Refuses a network that has learnt NaN or infinity.

    Args:
        parameters: Its parameters by name.

    Raises:
        NonFiniteError: If one isn't finite.
    """
    floating = {name: one for name, one in parameters.items() if one.is_floating_point() and one.numel() > 0}
    if get_total_norm(floating.values(), norm_type=math.inf).isfinite():  # one call for all of them
        return
    for name, parameter in floating.items():
        if not torch.isfinite(parameter).all():
            raise NonFiniteError(
                f"The parameter '{name}' of the network holds NaN or infinity, so no checkpoint is written from it; "
                "the one before it stays. To fix, look for a learning rate that is too high, or for gradients to clip."
            )


def _position(run: Run) -> tuple[int, int]:
    return run.progress.iterations, run.epochs_done
