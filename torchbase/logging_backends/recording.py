"""The records of a run on their way to a logging backend: the thread that writes them, and what becomes of errors."""

import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from torchbase.engine.run import Run
from torchbase.logging_backends.records import Record, size_of
from torchbase.logging_backends.writer_thread import WriterThread

_BYTES_OF_AN_ACTION = 100


class RecordWriter(Protocol):
    """What writes records; see `torchbase.logging_backends.base.LoggingBackend`, which is one."""

    seconds_of_patience: float
    seconds_until_tried_again: float

    @property
    def target(self) -> str:
        """What it writes, for messages."""

    def begin(self, run: Run) -> None:
        """Prepares for a run, once."""

    def open(self, run: Run) -> None:
        """Opens what records are written to."""

    def write(self, record: Record) -> None:
        """Writes a record."""

    def flush(self) -> None:
        """Lets a reader see what was written."""

    def close(self) -> None:
        """Closes what was opened."""

    def abandon(self) -> None:
        """Closes what was opened, after an error."""


class Recording:
    """Lets a thread of its own write what it is given, as long as the run takes."""

    def __init__(self, writer: RecordWriter, run: Run, name: str) -> None:
        """Begins, and waits until the writer has.

        Args:
            writer: What writes; only called in the thread.
            run: The run.
            name: What to call the writer in messages.
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
        """Hands a record over.

        Args:
            record: The record; nothing in it is changed any more.
        """
        if not self._thread.put(record, size_of(record)):
            self._report(self._stuck("it takes no records, and too many wait for it"))

    def do(self, action: Callable[[], object]) -> None:
        """Lets the thread do something between the records before and those behind it.

        Args:
            action: What to do. An error in it is one of the writer.
        """
        self._thread.put(action, _BYTES_OF_AN_ACTION)

    def wait(self) -> None:
        """Waits until what was handed over is written and flushed, or the thread has proved to be stuck."""
        if not self._thread.wait():
            self._report(self._stuck("it doesn't get on"))

    def end(self) -> None:
        """Writes what is left, closes, and ends the thread."""
        self.do(self._close)
        if not self._thread.end():
            self._report(self._stuck("it doesn't get on"))

    def raise_error(self) -> None:
        """Raises the first error of the writer, once, where errors are to be raised.

        Raises:
            Exception: The error, with a note that names the writer.
        """
        if self._error is not None:
            error, self._error = self._error, None
            error.add_note(self._problem)
            raise error

    def note_error(self, error: BaseException) -> None:
        """Notes on another error, with which the run ends already, that the writer had one as well.

        Args:
            error: The other error.
        """
        own, self._error = self._error, None
        if own is not None and own is not error:
            error.add_note(f"{self._problem}: {type(own).__name__}: {own}")

    @property
    def _problem(self) -> str:
        return f"{self._name} can't write {self._writer.target}"

    def _stuck(self, how: str) -> TimeoutError:
        return TimeoutError(f"{how}; it was waited for {self._writer.seconds_of_patience:g} seconds")

    def _report(self, error: Exception) -> None:
        if self._run.logging_errors.policy == "raise":
            self._error = self._error or error
        else:
            self._run.logging_errors.warn_once(self._name, self._problem, error)

    # From here on: in the thread.

    def _handle(self, item: Record | Callable[[], object]) -> None:
        try:
            if callable(item):
                item()
            elif self._open_if_it_may():
                self._writer.write(item)
        except Exception as error:
            self._fail(error)

    def _end_block(self) -> None:
        try:
            if self._is_open:
                self._writer.flush()
        except Exception as error:
            self._fail(error)

    def _open_if_it_may(self) -> bool:
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
                error.add_note(f"to close it failed as well: {type(second).__name__}: {second}")
        self._report(error)
