"""Saves the run on disk, and resumes it from there."""

import logging
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch.nn.utils import get_total_norm

from torchbase.checkpoints.run_state import can_gather_alone, gather, restore, state_of_loader
from torchbase.checkpoints.storage import Checkpoint as SavedState
from torchbase.checkpoints.storage import keep_newest, newest_whole_checkpoint, read_checkpoint, write_checkpoint
from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.engine.training_step import network_of
from torchbase.errors import NonFiniteError, RunDirectoryError
from torchbase.files.host_copies import HostCopies
from torchbase.intervals import Interval
from torchbase.run_directory.directory import RunDirectory

logger = logging.getLogger("torchbase")

MAXIMUM_CHECKPOINTS = 2
WRITE_NAME = "checkpoint"
MINIMUM_BYTES_TO_RESERVE = 2**20  # for a smaller network the thread costs more time than it saves


class Checkpoint:
    """Saves checkpoints at intervals and at the end of a run, and resumes from the newest.

    Training waits only for a copy of the state in memory. A thread writes the copy. At its start, a run resumes from
    the newest complete checkpoint of the run directory, if there is one.
    """

    def __init__(self, every: str | Interval | Sequence[str | Interval] = ("1ep", "60s")) -> None:
        """Sets the intervals.

        Args:
            every: One interval or several. ``"1ep"`` saves at the end of each epoch, ``"100it"`` after every 100
                training iterations of the run, ``"60s"`` after the first training iteration that ends at least 60
                seconds after the last checkpoint.

        Raises:
            IntervalError: If an interval is invalid.
        """
        intervals = [every] if isinstance(every, str | Interval) else every
        self._every = [Interval.parse(interval) for interval in intervals]
        self._saved_at = 0.0
        self._saved_position: tuple[int, int] | None = None
        self._copies = HostCopies()
        self._started_phases: set[str] = set()
        self._has_reserved_memory = False

    # First: it restores the run, and the states of the other hooks, before these are called.
    @hookimpl(tryfirst=True)
    def on_run_start(self, run: Run) -> None:
        """Resumes from the newest complete checkpoint."""
        self._saved_at, self._saved_position = run.processes.now(), None
        self._started_phases.clear()
        saved = _checkpoint_to_resume_from(run)
        if saved is not None:
            restore(run, saved)
            self._saved_position = _position(run)
            all_done = " The run is finished. To train on, raise session.num_epochs."
            end = all_done if run.epochs_done >= run.max_epochs else ""
            logger.info("Resumed from %s: %d epochs are done.%s", saved.path.name, run.epochs_done, end)

    @hookimpl
    def on_phase_start(self, run: Run, phase: Phase) -> None:
        """Waits for the thread before workers may be forked: a lock that it holds would stay locked in them."""
        if run.run_directory is not None and phase.name not in self._started_phases:
            self._started_phases.add(phase.name)
            run.run_directory.writes.wait()

    # Last, so that the checkpoint includes the effects of the other hooks.
    @hookimpl(trylast=True)
    def on_iteration_end(self, run: Run, phase: Phase) -> None:
        """Saves a checkpoint if one is due. Raises an error that occurred in writing the previous checkpoint."""
        if run.run_directory is not None:
            run.run_directory.writes.check()
        if phase.is_training and self._is_due(run, phase.progress.iterations):
            self._write(run)
        elif run.run_directory is not None and not self._has_reserved_memory:
            self._has_reserved_memory = True
            self._reserve_memory(run, run.run_directory)

    @hookimpl(trylast=True)
    def on_epoch_end(self, run: Run) -> None:
        """Saves a checkpoint if one is due."""
        is_due = any(interval.is_due_after(epochs=run.epochs_done) for interval in self._every)
        if is_due:
            self._write(run)

    # First: the other hooks repeat their work at the end of a run when the run is resumed.
    @hookimpl(tryfirst=True)
    def on_run_end(self, run: Run) -> None:
        """Saves a checkpoint unless the current state is saved, and waits until everything is on disk."""
        if self._saved_position != _position(run):
            self._write(run)
        if run.run_directory is not None:
            run.run_directory.writes.finish()

    # First: LogValues takes the values that are not read yet, and these belong to the averages in the checkpoint.
    @hookimpl(tryfirst=True)
    def on_exception(self, run: Run, error: BaseException) -> None:
        """Saves the state before the error if it is known, and waits until it is on disk."""
        if run.run_directory is None or not isinstance(error, Exception):
            return
        try:
            is_saved = self._saved_position == _position(run)
            is_known = run.is_between_iterations and not isinstance(error, NonFiniteError)
            if is_known and not is_saved and can_gather_alone(run):
                self._write(run)
            run.run_directory.writes.wait()
        except (RunDirectoryError, NonFiniteError) as write_error:
            if write_error is not error:
                error.add_note(f"no checkpoint could be written after this error: {write_error}")

    def _reserve_memory(self, run: Run, directory: RunDirectory) -> None:
        # In parallel with training, once the optimizer has a state.
        size = sum(parameter.nbytes for parameter in network_of(run).parameters())
        if size > MINIMUM_BYTES_TO_RESERVE and can_gather_alone(run):
            directory.writes.submit(WRITE_NAME, self._copies.reserve(gather(run)))

    def _is_due(self, run: Run, iterations: int) -> bool:
        seconds = run.processes.now() - self._saved_at
        return any(
            seconds >= interval.count if interval.unit == "s" else interval.is_due_after(iterations=iterations)
            for interval in self._every
        )

    def _write(self, run: Run) -> None:
        if run.run_directory is None and run.processes.count == 1:
            return
        run.read_values()  # for the averages; a NaN among them ends the run here
        self._saved_at, self._saved_position = run.processes.now(), _position(run)
        if run.run_directory is None:  # the main process writes; what belongs to others is sent to it
            state_of_loader(run)
        else:
            self._write_into(run, run.run_directory)

    def _write_into(self, run: Run, directory: RunDirectory) -> None:
        directory.writes.wait(WRITE_NAME)  # the next line overwrites the copies that are being written
        parts = self._copies.of(gather(run))
        parameters = [name for name, _ in network_of(run).named_parameters(remove_duplicate=False)]
        write = partial(_write_parts, directory, run.epochs_done, run.progress.iterations, parts, parameters)
        directory.writes.submit(WRITE_NAME, write)


def _checkpoint_to_resume_from(run: Run) -> SavedState | None:
    saved = None if run.run_directory is None else newest_whole_checkpoint(run.run_directory.states)
    # The others read the checkpoint that the main process has found to be whole.
    path = run.processes.tell(None if saved is None else saved.path, "the checkpoint to resume from")
    return saved if saved is not None or path is None else read_checkpoint(path)


def _write_parts(
    directory: RunDirectory, epoch: int, iteration: int, parts: Mapping[str, Any], parameters: list[str]
) -> None:
    check_is_finite({name: parts["network"][name] for name in parameters if name in parts["network"]})
    written = write_checkpoint(directory.states, epoch, iteration, parts)
    keep_newest(directory.states, MAXIMUM_CHECKPOINTS, whole=written)


def check_is_finite(parameters: Mapping[str, torch.Tensor]) -> None:
    """Raises an error if a parameter is not finite.

    Args:
        parameters: The parameters of the network by name.

    Raises:
        NonFiniteError: If a parameter contains NaN or infinity.
    """
    values = {name: _values_of(parameter) for name, parameter in parameters.items() if _can_be_infinite(parameter)}
    wide = [one for one in values.values() if one.itemsize > 1]
    if get_total_norm(wide, norm_type=math.inf).isfinite():  # one call for all parameters
        values = {name: one for name, one in values.items() if one.itemsize == 1}
    for name, one in values.items():
        # Most functions don't know float8. A bfloat16 holds each number of its kinds.
        if not torch.isfinite(one.bfloat16() if one.itemsize == 1 else one).all():
            raise NonFiniteError(
                f"The parameter '{name}' of the network contains NaN or infinity, so this checkpoint is not written. "
                "The previous checkpoint is unchanged. To fix, lower the learning rate or clip the gradients."
            )


def _can_be_infinite(parameter: torch.Tensor) -> bool:
    has_no_nan = parameter.dtype == torch.float4_e2m1fn_x2
    return (parameter.is_floating_point() or parameter.is_complex()) and parameter.numel() > 0 and not has_no_nan


def _values_of(parameter: torch.Tensor) -> torch.Tensor:
    values = parameter
    if parameter.layout is not torch.strided:
        values = parameter.coalesce().values() if parameter.is_sparse else parameter.values()
    # Most functions don't know the complex numbers of 32 bits, but their two parts.
    return torch.view_as_real(values.resolve_conj()) if values.is_complex() else values


def _position(run: Run) -> tuple[int, int]:
    return run.progress.iterations, run.epochs_done
