"""The files in which each of several processes records its error, so that people find the first."""

import math
import os
import re
import socket
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from torchbase.errors import ProcessesDifferError, ProcessLostError, RunDirectoryError
from torchbase.files.durable import make_folder, os_errors_explained, write_durably

ERRORS_FOLDER = "errors"
FIRST_ERROR = "the first error was"
SECONDS_TO_LOOK = 3.0  # a network file system may show a file of another machine late

_NOTE = "on process "
_SECONDS_BETWEEN_LOOKS = 0.1
_CHARACTERS_SHOWN = 500
_FILE = re.compile(r"process-(\d+)\.txt")
_HEAD = re.compile(r"process (\d+) of \d+, on (\S+), (\S+), attempt (\S+?)(, after that of another)?")


class OrderlyExit(SystemExit):
    """The end of a program whose run was stopped by a signal, with a status for whoever has started it."""


class RecordedError(NamedTuple):
    """An error that a process has recorded.

    Attributes:
        file: The file.
        process: The index of the process.
        host: Its machine.
        time: When it failed, in seconds since 1970.
        attempt: The attempt to train, see `ErrorFiles.share`.
        is_first: Whether it isn't the consequence of the error of another process.
        text: The type and the message.
    """

    file: Path
    process: int
    host: str
    time: float
    attempt: str
    is_first: bool
    text: str


class ErrorFiles:
    """The files ``errors/process-N.txt`` of a run directory. A process alone has none, since it shows its error.

    A file has the errors of all attempts to train, the newest last.
    """

    def __init__(self, run_directory: Path) -> None:
        """Refers to the files of a process alone.

        Args:
            run_directory: The path of the run directory.
        """
        self.folder = run_directory / ERRORS_FOLDER
        self._index, self._count, self._attempt, self._calls = 0, 1, "", 0

    def share(self, index: int, count: int, attempt: str) -> None:
        """Sets which of several processes this is.

        Args:
            index: The index of this process.
            count: The number of processes.
            attempt: A text that all processes know and that no other session in this run directory has.
        """
        self._index, self._count, self._attempt = index, count, attempt

    def begin_call(self) -> None:
        """Sets that earlier errors are those of an earlier call of the session."""
        self._calls += 1

    def record(self, error: BaseException) -> None:
        """Records an error of this process, and adds notes to it: on which process it was, and where the first one was.

        Call it while the error is handled. An error that has such notes is recorded already, or was sent to all
        processes, which show it. It never waits for another process, except for its file, and then for seconds.

        Args:
            error: The error.
        """
        if isinstance(error, OrderlyExit):
            return
        if isinstance(error, KeyboardInterrupt) and error.args:  # the orderly end of a run after Ctrl-C
            return
        if self._count > 1 and not _has_note(error):
            add_process_note(error, self._index, self._count)
            if not isinstance(error, ProcessesDifferError):  # each process raises it, and shows the same message
                self._record_in_file(error)
        record_for_torchrun(error)

    def has_errors(self) -> bool:
        """Whether a process has recorded an error in this attempt."""
        return any(error.attempt == self._name_of_attempt for error in read_errors(self.folder))

    @property
    def _name_of_attempt(self) -> str:
        return f"{self._attempt}-{self._calls}"

    def _record_in_file(self, error: BaseException) -> None:
        is_first = not any(isinstance(one, ProcessLostError) for one in _chain(error))
        now = datetime.now().astimezone()
        first = None if is_first else self._wait_for_first()
        if first is not None:
            where = f"on process {first.process}, on {first.host}"
            error.add_note(f"{FIRST_ERROR} {where}: {first.text}; its traceback is in {first.file}")
        elif not is_first:
            error.add_note(
                f"no process has recorded another error in {self.folder}, so one was probably killed, or its machine "
                "is down, or it waits for something; see what the launcher reports"
            )
        head = (
            f"process {self._index} of {self._count}, on {socket.gethostname()}, {now.isoformat()}, attempt "
            f"{self._name_of_attempt}{'' if is_first else ', after that of another'}"
        )
        try:
            _append(self.folder / f"process-{self._index}.txt", f"{head}\n{_described(error)}\n{_traceback_of(error)}")
        except RunDirectoryError as disk_error:
            error.add_note(f"this error could not be recorded for the other processes: {disk_error}")
        if first is not None:
            # torchrun compares whole seconds to find the first error. A clock of another machine may be ahead.
            time.sleep(min(1.0, max(0.0, math.floor(first.time) + 1 - time.time())))

    def _wait_for_first(self) -> RecordedError | None:
        deadline = time.monotonic() + SECONDS_TO_LOOK
        while True:
            own = [one for one in read_errors(self.folder) if one.attempt == self._name_of_attempt and one.is_first]
            if own or time.monotonic() > deadline:
                return min(own, key=lambda one: one.time, default=None)
            time.sleep(_SECONDS_BETWEEN_LOOKS)


def add_process_note(error: BaseException, index: int, count: int) -> None:
    """Adds the note to an error that says on which process it was.

    Args:
        error: The error.
        index: The index of the process.
        count: The number of processes.
    """
    error.add_note(f"{_NOTE}{index} of {count}, on {socket.gethostname()}")


def _has_note(error: BaseException) -> bool:
    return any(note.startswith(_NOTE) for note in getattr(error, "__notes__", ()))


def read_errors(folder: Path) -> list[RecordedError]:
    """Reads the newest error of each process.

    Args:
        folder: The folder ``errors`` of a run directory; it may be missing.

    Returns:
        The errors, by process.

    Raises:
        RunDirectoryError: If the operating system reports an error.
    """
    with os_errors_explained("read", folder):
        if not folder.is_dir():
            return []
        files = [Path(entry.path) for entry in os.scandir(folder) if _FILE.fullmatch(entry.name)]
        return sorted((error for file in files for error in list(_errors_in(file))[-1:]), key=lambda one: one.process)


def _errors_in(file: Path) -> Iterator[RecordedError]:
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    for line, text in pairwise(lines):
        head = _HEAD.fullmatch(line)
        if head is not None:
            failed_at = datetime.fromisoformat(head[3]).timestamp()
            yield RecordedError(file, int(head[1]), head[2], failed_at, head[4], head[5] is None, text)


def _append(file: Path, text: str) -> None:
    make_folder(file.parent)
    with os_errors_explained("read", file):
        before = file.read_bytes() + b"\n" if file.exists() else b""
    write_durably(file, lambda target: target.write(before + text.encode(errors="replace")))


def _described(error: BaseException) -> str:
    """Returns the type and the message in one line."""
    text = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
    return text if len(text) <= _CHARACTERS_SHOWN else f"{text[:_CHARACTERS_SHOWN]}…"


def _traceback_of(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


@contextmanager
def errors_for_torchrun() -> Iterator[None]:
    """Records an error of the ``with`` body for torchrun; see `record_for_torchrun`.

    Yields:
        Nothing.
    """
    try:
        yield
    except BaseException as error:
        record_for_torchrun(error)
        raise


def record_for_torchrun(error: BaseException) -> None:
    """Records an error in the file that torchrun reads, so that its last message shows the first error.

    Call it while the error is handled. Without torchrun it does nothing.

    Args:
        error: The error.
    """
    if not os.environ.get("TORCHELASTIC_ERROR_FILE"):
        return
    from torch.distributed.elastic.multiprocessing.errors import get_error_handler

    try:
        get_error_handler().record_exception(error)
    except OSError as disk_error:
        error.add_note(f"this error could not be recorded for torchrun: {disk_error}")
