"""Saves the run on disk, and resumes it from there."""

import logging
from collections.abc import Sequence

from torchbase.checkpoints.distributed_tensors import distributed_parameter
from torchbase.checkpoints.run_state import restore
from torchbase.checkpoints.together import newest_together
from torchbase.checkpoints.writers import CheckpointWriter, writer_of
from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.errors import NonFiniteError, ProcessError, RunDirectoryError
from torchbase.intervals import Interval

logger = logging.getLogger("torchbase")


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
        self._writer: CheckpointWriter | None = None
        self._run: Run | None = None
        self._started_phases: set[str] = set()
        self._has_reserved_memory = False

    # First: it restores the run, and the states of the other hooks, before these are called.
    @hookimpl(tryfirst=True)
    def on_run_start(self, run: Run) -> None:
        """Resumes from the newest complete checkpoint."""
        self._saved_at, self._saved_position = run.processes.now(), None
        self._started_phases.clear()
        if self._run is not run:  # its connections stay for the next call
            self._run, self._writer = run, writer_of(run)
        folder = None if run.run_directory is None else run.run_directory.states
        is_sharded = distributed_parameter(run.optimizer) is not None
        saved = newest_together(run.processes, folder, is_opened=is_sharded)
        if saved is not None:
            restore(run, saved)
            self._saved_position = _position(run)
            all_done = " The run is finished. To train on, raise session.num_epochs."
            end = all_done if run.epochs_done >= run.max_epochs else ""
            logger.info("Resumed from %s: %d epochs are done.%s", saved.path.name, run.epochs_done, end)

    @hookimpl
    def on_phase_start(self, phase: Phase) -> None:
        """Waits for the thread before workers may be forked: a lock that it holds would stay locked in them."""
        if self._writer is not None and phase.name not in self._started_phases:
            self._started_phases.add(phase.name)
            self._writer.wait()

    # Last, so that the checkpoint includes the effects of the other hooks.
    @hookimpl(trylast=True)
    def on_iteration_end(self, run: Run, phase: Phase) -> None:
        """Saves a checkpoint if one is due. Raises an error that occurred in writing the previous checkpoint."""
        if self._writer is not None:
            self._writer.check()
        if phase.is_training and self._is_due(run, phase.progress.iterations):
            self._write(run)
        elif self._writer is not None and not self._has_reserved_memory:
            self._has_reserved_memory = True
            self._writer.reserve(run)

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
        if self._writer is not None:
            self._writer.finish()

    # First: LogValues takes the values that are not read yet, and these belong to the averages in the checkpoint.
    @hookimpl(tryfirst=True)
    def on_exception(self, run: Run, error: BaseException) -> None:
        """Saves the state before the error if it is known, and waits until it is on disk."""
        if self._writer is None or not isinstance(error, Exception):
            return
        try:
            is_saved = self._saved_position == _position(run)
            is_known = run.is_between_iterations and not isinstance(error, NonFiniteError)
            if is_known and not is_saved and not self._writer.needs_others:
                self._write(run)
            self._writer.wait()
        except (RunDirectoryError, NonFiniteError, ProcessError) as write_error:
            if write_error is not error:
                error.add_note(f"no checkpoint could be written after this error: {write_error}")

    def _is_due(self, run: Run, iterations: int) -> bool:
        seconds = run.processes.now() - self._saved_at
        return any(
            seconds >= interval.count if interval.unit == "s" else interval.is_due_after(iterations=iterations)
            for interval in self._every
        )

    def _write(self, run: Run) -> None:
        if self._writer is None:
            return
        run.read_values()  # for the averages; a NaN among them ends the run here
        self._saved_at, self._saved_position = run.processes.now(), _position(run)
        self._writer.write(run)


def _position(run: Run) -> tuple[int, int]:
    return run.progress.iterations, run.epochs_done
