"""Keeps in the run directory how the run goes, in files for people and programs that look at it."""

import logging
import os
import socket
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
from torchbase.run_directory.record import (
    Best,
    Epoch,
    State,
    Status,
    append_epoch,
    read_status,
    truncate_epochs,
    write_hooks,
    write_status,
)

logger = logging.getLogger("torchbase")


class RunRecord:
    """Writes ``status.json``, ``epochs.jsonl`` and ``hooks.json``, which the command ``torchbase`` reads.

    The status is written when the run starts, at the end of each epoch, and when the run ends; the averages of a phase
    when it is done. A run that goes on from a checkpoint takes away what is to come again, so each phase of each epoch
    is there once. Nothing is done in an iteration.

    An error of the disk doesn't end the training: one warning tells of it.
    """

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._started_at = ""
        self._resumed_at: str | None = None
        self._has_warned = False
        self._lines = 0

    # Checkpoint has restored the run by now.
    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Takes away what is to come again, and says that the run is running."""
        self._has_warned = False
        if run.run_directory is None:
            return
        self._folder = run.run_directory.path
        self._note_the_start(self._folder)
        with self._disk_errors_told():
            truncate_epochs(self._folder, self._lines)
        with self._disk_errors_told():
            write_hooks(self._folder, order_of(run.hooks, run.listeners))
        self._write_status(run, "running")

    @hookimpl
    def on_phase_end(self, run: Run, phase: Phase) -> None:
        """Appends the averages of the phase."""
        if self._folder is not None:
            averages = {name: float(value) for name, value in phase.averages.items()}
            with self._disk_errors_told():
                append_epoch(self._folder, Epoch(run.epoch, phase.name, run.progress.iterations, averages))
                self._lines += 1

    @hookimpl
    def on_epoch_end(self, run: Run) -> None:
        """Says how far the run is."""
        self._write_status(run, "running")

    # Late, so that a run that another hook fails to end isn't told to be finished.
    @hookimpl(trylast=True)
    def on_run_end(self, run: Run) -> None:
        """Says how the run ended."""
        self._write_status(run, "finished" if run.epochs_done >= run.max_epochs else "stopped", run.stop_reason)
        self._folder = None

    @hookimpl
    def on_exception(self, run: Run, error: BaseException) -> None:
        """Says what ended the run."""
        reason = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
        self._write_status(run, "failed" if isinstance(error, Exception) else "stopped", reason)
        self._folder = None

    def state_dict(self) -> dict[str, Any]:
        """Gives how many averages were appended."""
        return {"lines": self._lines}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes how many averages stay.

        Args:
            state: What `state_dict` gave.
        """
        self._lines = state["lines"]

    def _note_the_start(self, folder: Path) -> None:
        now = _now()
        try:
            before = read_status(folder)
        except RunDirectoryError as error:
            logger.warning("When the run was begun is told anew: %s", error)
            before = None
        self._started_at, self._resumed_at = (now, None) if before is None else (before.started_at, now)

    def _write_status(self, run: Run, state: State, reason: str | None = None) -> None:
        if self._folder is None:
            return
        status = Status(
            state=state,
            reason=reason,
            epochs_done=run.epochs_done,
            max_epochs=run.max_epochs,
            iterations=run.progress.iterations,
            best_losses={phase: Best(float(best.loss), best.epoch) for phase, best in run.best_losses.items()},
            started_at=self._started_at,
            resumed_at=self._resumed_at,
            updated_at=_now(),
            process_id=os.getpid(),
            host=socket.gethostname(),
        )
        with self._disk_errors_told():
            write_status(self._folder, status)

    @contextmanager
    def _disk_errors_told(self) -> Iterator[None]:
        try:
            yield
        except RunDirectoryError as error:
            if not self._has_warned:
                self._has_warned = True
                logger.warning(
                    "What `torchbase show` tells of the run in %s can't be written, so some of it will be missing; "
                    "training goes on: %s",
                    self._folder,
                    error,
                )


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
