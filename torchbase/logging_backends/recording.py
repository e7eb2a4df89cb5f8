"""Passes the records of a run to a logging backend's thread, and handles the thread's errors."""

import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from torchbase.engine.run import Run
from torchbase.logging_backends.records import Record, size_of
from torchbase.logging_backends.writer_thread import WriterThread

_BYTES_OF_AN_ACTION = 100


class RecordWriter(Protocol):
    """An object that writes records, such as a `torchbase.logging_backends.base.LoggingBackend`."""

    seconds_of_patience: float
    seconds_until_tried_again: float

    @property
    def target(self) -> str:
        """What the writer writes, for messages."""

    def begin(self, run: Run) -> None:
        """Prepares for a run, once."""

    def open(self, run: Run) -> None:
        """Opens the target of the records."""

    def write(self, record: Record) -> None:
        """Writes a record."""

    def flush(self) -> None:
        """Makes the written records visible to readers."""

    def close(self) -> None:
        """Closes the target."""

    def abandon(self) -> None:
        """Closes the target after an error."""


class Recording:
    """Lets a thread write the records of one run."""

    def __init__(self, writer: RecordWriter, run: Run, name: str) -> None:
        """Starts the thread, and waits until the writer has begun.

        Args:
            writer: The writer; called in the thread only.
            run: The run.
            name: The name of the writer in messages.
        """
        self._writer, self._run, self._name = writer, run, name
        self._is_open = False
        self._failed_at: float | None = None
        self._error: Exception | None = None
        self._thread: WriterThread[Record | Callable[[], object]] = WriterThread(
            f"torchbase {name}", self._handle, self._end_block, writer.seconds_of_patience
        )
        self.do(partial(writer.begin, run))
        self.wait()

    def put(self, record: Record) -> None:
        """Queues a record.

        Args:
            record: The record; the caller must not change it afterwards.
        """
        if not self._thread.put(record, size_of(record)):
            self._report(self._timeout("it accepts no more records, and too many are queued"))

    def do(self, action: Callable[[], object]) -> None:
        """Calls an action in the thread, after all earlier records.

        Args:
            action: The action. An error in it counts as an error of the writer.
        """
        self._thread.put(action, _BYTES_OF_AN_ACTION)

    def wait(self) -> None:
        """Waits until all queued records are written and flushed, or until the thread is stuck."""
        if not self._thread.wait():
            self._report(self._timeout("it makes no progress"))

    def end(self) -> None:
        """Writes the remaining records, closes, and ends the thread."""
        self.do(self._close)
        if not self._thread.end():
            self._report(self._timeout("it makes no progress"))

    def raise_error(self) -> None:
        """Raises the first error of the writer, once, if errors end the training.

        Raises:
            Exception: The error, with a note that names the writer.
        """
        if self._error is not None:
            error, self._error = self._error, None
            error.add_note(self._problem)
            raise error

    def note_error(self, error: BaseException) -> None:
        """Adds a note about the writer's error to another error, which already ends the run.

        Args:
            error: The other error.
        """
        own, self._error = self._error, None
        if own is not None and own is not error:
            error.add_note(f"{self._problem}: {type(own).__name__}: {own}")

    @property
    def _problem(self) -> str:
        return f"{self._name} can't write {self._writer.target}"

    def _timeout(self, reason: str) -> TimeoutError:
        return TimeoutError(f"{reason}; waited {self._writer.seconds_of_patience:g} seconds for it")

    def _report(self, error: Exception) -> None:
        if self._run.logging_errors.policy == "raise":
            self._error = self._error or error
        else:
            self._run.logging_errors.warn_once(self._name, self._problem, error)

    # The methods below run in the thread.

    def _handle(self, item: Record | Callable[[], object]) -> None:
        try:
            if callable(item):
                item()
            elif self._try_to_open():
                self._writer.write(item)
        except Exception as error:
            self._fail(error)

    def _end_block(self) -> None:
        try:
            if self._is_open:
                self._writer.flush()
        except Exception as error:
            self._fail(error)

    def _try_to_open(self) -> bool:
        pause, failed_at = self._writer.seconds_until_tried_again, self._failed_at
        if not self._is_open and (failed_at is None or time.monotonic() - failed_at >= pause):
            self._writer.open(self._run)
            self._is_open = True
        return self._is_open

    def _close(self) -> None:
        if self._is_open:
            self._writer.flush()
            self._writer.close()
            self._is_open = False

    def _fail(self, error: Exception) -> None:
        self._failed_at = time.monotonic()
        if self._is_open:
            self._is_open = False
            try:
                self._writer.abandon()
            except Exception as second:
                error.add_note(f"closing failed as well: {type(second).__name__}: {second}")
        self._report(error)
