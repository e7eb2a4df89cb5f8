"""Records the progress of a run in files of the run directory, for people and programs."""

import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.errors import RunDirectoryError
from torchbase.listeners import order_of
from torchbase.metrics.directions import Mode
from torchbase.metrics.selection import NAME_OF_THE_LOSS
from torchbase.run_directory.error_files import FIRST_ERROR
from torchbase.run_directory.newest import next_order
from torchbase.run_directory.record import (
    Epoch,
    append_epoch,
    read_epochs,
    read_status,
    truncate_epochs,
    write_hooks,
    write_status,
)
from torchbase.run_directory.status import Best, State, Status
from torchbase.run_directory.value_ranges import ValueRanges, extend

logger = logging.getLogger("torchbase")


class RunRecord:
    """Writes the status and averages of a run to files that the ``torchbase`` command reads.

    The files are ``status.json``, ``epochs.jsonl`` and ``hooks.json``. The status is written at the start of the run,
    at the end of each epoch and of each validation within an epoch, and at the end of the run. The averages of a phase
    are appended when the phase ends. A resumed run truncates the averages to those of its checkpoint, so each phase of
    each epoch has one line. The hook does nothing in iterations.

    A disk error doesn't stop the training: the hook logs one warning.
    """

    main_process_only = True

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._started_at = ""
        self._resumed_at: str | None = None
        self._order = 0
        self._has_warned = False
        self._lines = 0
        self._values: ValueRanges = {}
        self._clock = _Clock()

    # At this point Checkpoint has restored the run.
    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Truncates the averages to those of the checkpoint, and writes the status ``running``."""
        self._has_warned = False
        if run.run_directory is None:
            return
        self._folder = run.run_directory.path
        self._set_start_times(self._folder)
        with self._warning_of_disk_errors():
            truncate_epochs(self._folder, self._lines)
            self._values = extend({}, read_epochs(self._folder)[0])
        with self._warning_of_disk_errors():
            write_hooks(self._folder, order_of(run.hooks, run.listeners))
        self._write_status(run, "running")

    @hookimpl
    def on_epoch_start(self, run: Run) -> None:
        """Starts the clock of the epoch."""
        self._clock.begin_epoch(is_whole=run.progress.mini_batches == 0)

    @hookimpl
    def on_phase_end(self, run: Run, phase: Phase) -> None:
        """Appends the averages of the phase. After a validation within an epoch, it writes the progress of the run."""
        if self._folder is None:
            return
        averages = {name: float(value) for name, value in phase.averages.items()}
        epoch = Epoch(run.epoch, phase.name, run.progress.iterations, averages)
        self._values = extend(self._values, [epoch])
        with self._warning_of_disk_errors():
            append_epoch(self._folder, epoch)
            self._lines += 1
        if phase.is_within_training:
            self._write_status(run, "running")

    @hookimpl
    def on_epoch_end(self, run: Run) -> None:
        """Writes the progress of the run."""
        self._clock.end_epoch()
        self._write_status(run, "running")

    # Last, so that a run is not recorded as finished if another hook raises an error at its end.
    @hookimpl(trylast=True)
    def on_run_end(self, run: Run) -> None:
        """Writes whether the run finished or stopped, and why it stopped."""
        self._write_status(run, "finished" if run.is_finished else "stopped", run.stop_reason)
        self._folder = None

    @hookimpl
    def on_exception(self, run: Run, error: BaseException) -> None:
        """Writes the error or signal that ended the run."""
        notes = [note for note in getattr(error, "__notes__", ()) if note.startswith(FIRST_ERROR)]
        text = f"{type(error).__name__}: {error}".removesuffix(": ")
        reason = " ".join("; ".join([text, *notes]).split())
        self._write_status(run, "failed" if isinstance(error, Exception) else "stopped", reason)
        self._folder = None

    def state_dict(self) -> dict[str, Any]:
        """Returns the number of lines of averages."""
        return {"lines": self._lines}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the number of lines of averages.

        Args:
            state: The return value of `state_dict`.
        """
        self._lines = state["lines"]

    def _set_start_times(self, folder: Path) -> None:
        now = _now()
        try:
            before = read_status(folder)
        except RunDirectoryError as error:
            logger.warning("The start time of the run is lost and set to now, and so is its duration: %s", error)
            before = None
        self._clock = _Clock(
            0.0 if before is None else before.seconds, None if before is None else before.epoch_seconds
        )
        self._started_at, self._resumed_at = (now, None) if before is None else (before.started_at, now)
        self._order = 0 if before is None else before.order
        if self._order == 0:
            with self._warning_of_disk_errors():
                self._order = next_order(folder.parent)

    def _write_status(self, run: Run, state: State, reason: str | None = None) -> None:
        if self._folder is None:
            return
        status = Status(
            state=state,
            reason=reason,
            epochs_done=run.epochs_done,
            max_epochs=run.max_epochs,
            max_iterations=run.max_iterations,
            iterations=run.progress.iterations,
            best_losses={phase: Best(float(best.loss), best.epoch) for phase, best in run.best_losses.items()},
            started_at=self._started_at,
            resumed_at=self._resumed_at,
            updated_at=_now(),
            process_id=os.getpid(),
            host=socket.gethostname(),
            order=self._order,
            tag=self._folder.name,
            seconds=self._clock.seconds,
            epoch_seconds=self._clock.epoch_seconds,
            values=self._values,
            directions=_directions_of(run),
        )
        with self._warning_of_disk_errors():
            write_status(self._folder, status)

    @contextmanager
    def _warning_of_disk_errors(self) -> Iterator[None]:
        try:
            yield
        except RunDirectoryError as error:
            if not self._has_warned:
                self._has_warned = True
                logger.warning(
                    "The record of the run in %s can't be written, so the output of `torchbase show` will be "
                    "incomplete; training continues: %s",
                    self._folder,
                    error,
                )


class _Clock:
    """How long the run trains, with the time before it was resumed, and how long an epoch takes."""

    def __init__(self, seconds_before: float | None = 0.0, epoch_seconds: float | None = None) -> None:
        self.epoch_seconds = epoch_seconds
        self._seconds_before = seconds_before
        self._started_at = time.monotonic()
        self._epoch_started_at: float | None = None

    @property
    def seconds(self) -> float | None:
        """How long the run has trained; None if that isn't known for the time before it was resumed."""
        if self._seconds_before is None:
            return None
        return round(self._seconds_before + time.monotonic() - self._started_at, 3)

    def begin_epoch(self, *, is_whole: bool) -> None:
        self._epoch_started_at = time.monotonic() if is_whole else None

    def end_epoch(self) -> None:
        if self._epoch_started_at is not None:
            self.epoch_seconds = round(time.monotonic() - self._epoch_started_at, 3)


def _directions_of(run: Run) -> dict[str, Mode]:
    modes = {} if run.metrics is None else run.metrics.modes
    return {NAME_OF_THE_LOSS: "min", **{name: mode for name, mode in modes.items() if mode is not None}}


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="microseconds")
