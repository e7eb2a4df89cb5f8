"""The directory of one run. Its name has the time and the host, and only one process writes to it."""

import logging
import os
import re
import shutil
import socket
import threading
import traceback
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from torchbase.errors import RunDirectoryError, RunDirectoryLockedError, did_you_mean
from torchbase.files.background_writes import BackgroundWrites
from torchbase.files.durable import make_folder, os_errors_explained, sync_folder
from torchbase.files.walking import files_in
from torchbase.run_directory.error_files import ErrorFiles
from torchbase.run_directory.lock import LOCK_FILE, describe_holder, forget_holder, is_open_here, note_holder
from torchbase.run_directory.names import STATES_FOLDER

# Far longer than `is_locked` holds the lock, or a forked child of a killed process that is about to call exec.
LOCK_TIMEOUT_SECONDS = 1.0
_POSTFIX = re.compile(r"[A-Za-z0-9._-]+")
_TAGS_LISTED = 5
_logger = logging.getLogger("torchbase")


class RunDirectory:
    """The directory of one run, made by `create` or found by `open`.

    Attributes:
        path: The directory.
        tag: Its name, ``YYYY-MM-DD_HH-MM-SS_host`` with the postfix, if any.
        is_new: Whether this session made the directory. False if it existed before.
        is_discarded: Whether `remove_if_unused` removed it; `make_again` makes it again.
        writes: The background writes into the directory.
        errors: The files in which several processes record their errors.
    """

    def __init__(self, path: Path, is_new: bool) -> None:
        self.path = path
        self.tag = path.name
        self.is_new = is_new
        self.writes = BackgroundWrites()
        self.errors = ErrorFiles(path)
        # Not thread-local, since hooks may write from their own threads.
        self._lock = FileLock(path / LOCK_FILE, timeout=LOCK_TIMEOUT_SECONDS, thread_local=False)
        self._should_lock, self._mutex = False, threading.Lock()
        self._files_of_setup: frozenset[Path] = frozenset()
        self.is_discarded = False

    @classmethod
    def create(cls, parent: Path | str, postfix: str | None = None) -> "RunDirectory":
        """Makes the directory of a new run.

        Args:
            parent: The folder of all runs. It is created if it is missing.
            postfix: A text at the end of the tag by which people recognise the run. It consists of letters, digits,
                ``.``, ``_`` and ``-``.

        Returns:
            The directory. It is different from that of any other session, even one that started in the same second.

        Raises:
            RunDirectoryError: If the postfix holds other characters, or the operating system reports an error.
        """
        if postfix is not None and not _POSTFIX.fullmatch(postfix):
            raise RunDirectoryError(
                f"The postfix {postfix!r} can't end the name of a run directory. "
                "To fix, use ASCII letters, digits, '.', '_' and '-' only, at least one of them."
            )
        host = re.sub(r"[^A-Za-z0-9.-]+", "-", socket.gethostname()) or "host"
        parts = [datetime.now().strftime("%Y-%m-%d_%H-%M-%S"), host, *([postfix] if postfix else [])]
        return cls(_make_unused_folder(make_folder(Path(parent).absolute()), "_".join(parts)), is_new=True)

    @classmethod
    def open(cls, parent: Path | str, tag: str) -> "RunDirectory":
        """Finds the directory of an earlier run.

        Args:
            parent: The folder of all runs.
            tag: The name of the run's directory in it.

        Returns:
            The directory. It isn't locked yet.

        Raises:
            RunDirectoryError: If the tag isn't the name of a directory in ``parent``.
        """
        parent = Path(parent).absolute()
        path = parent / tag
        # Compared as text, because a path drops a trailing separator and a "." in the middle.
        if tag in {"", ".", ".."} or "\0" in tag or "\\" in tag or path.name != tag:
            raise RunDirectoryError(
                f"{tag!r} isn't the tag of a run. To fix, pass the plain name of a directory in {parent}, not a path."
            )
        if not _is_inside(path, parent):
            raise RunDirectoryError(f"{path} leads out of {parent}, to {os.path.realpath(path)}. It is not opened.")
        if not path.is_dir():
            raise RunDirectoryError(f"There is no run directory {path}. {_known_tags(parent, tag)}")
        return cls(path, is_new=False)

    @property
    def states(self) -> Path:
        """The folder of the checkpoints and other state. It is created on first access."""
        return make_folder(self.path / STATES_FOLDER)

    def file(self, name: str) -> Path:
        """Returns the path of a file in the directory, and makes the folders above the file.

        Args:
            name: The name of the file, relative to the directory ("states/seeds.json").

        Returns:
            The path. The file may not exist yet.

        Raises:
            RunDirectoryError: If the name leads out of the directory, or the operating system reports an error.
        """
        path = self.path / name
        if "\0" in name or ".." in Path(name).parts or not _is_inside(path, self.path):
            raise RunDirectoryError(
                f"{name!r} isn't a file inside the run directory {self.path}. "
                "To fix, pass a relative name without '..', such as 'states/seeds.json'."
            )
        make_folder(path.parent)
        return path

    def lock(self) -> None:
        """Locks the directory until `unlock` is called, this object is deleted or the process ends in any way.

        Raises:
            RunDirectoryLockedError: If another session has locked the directory.
            RunDirectoryError: If the directory was removed, or the operating system reports an error.
        """
        with self._mutex:
            self._should_lock = True
            if self._lock.is_locked:
                return
        if not self.path.is_dir():  # locking would create it again, without its config and seed
            raise RunDirectoryError(
                f"The run directory {self.path} was removed. To fix, make a new session, which starts a new run."
            )
        with os_errors_explained("lock", self.path):
            try:
                self._lock.acquire(poll_interval=LOCK_TIMEOUT_SECONDS / 10)
            except Timeout as error:
                raise RunDirectoryLockedError(self._explain_lock()) from error
        note_holder(self.path)

    def _explain_lock(self) -> str:
        if is_open_here(self.path / LOCK_FILE):
            return (
                f"Another session of this process has locked the run directory {self.path}. To fix, call the close() "
                "of that session, or use it in a `with` statement, which closes it."
            )
        return (
            f"Another session is writing to the run directory {self.path}: {describe_holder(self.path)}. "
            "To fix, wait until that session has ended, end it, or start a new run."
        )

    def unlock(self) -> None:
        """Unlocks the directory for other sessions, once no write into it is running.

        It does nothing if this object hasn't locked the directory.
        """
        self._should_lock = False
        self.writes.call_when_written(self._release_unless_locked_again)

    def _release_unless_locked_again(self) -> None:
        with self._mutex:
            if not self._should_lock and self._lock.is_locked:
                forget_holder(self.path)
                self._lock.release()

    def end_setup(self) -> None:
        """Notes the files that the directory has now, for `remove_if_unused`."""
        self._files_of_setup = self._files()

    def remove_if_unused(self) -> bool:
        """Unlocks and removes a new directory that has no other files than at `end_setup`.

        Returns:
            Whether the directory was removed. `make_again` makes it again.

        Raises:
            RunDirectoryError: If the operating system reports an error.
        """
        if not self.is_new or not self.path.is_dir() or not self._files() <= self._files_of_setup:
            return False
        self._remove()
        self.is_discarded = True
        _logger.info("Removed the run directory %s: its session was not called.", self.path)
        return True

    def is_visible(self) -> bool:
        """Whether this process can see the directory."""
        return self.path.is_dir()

    def make_again(self) -> None:
        """Makes a directory again that `remove_if_unused` removed, and locks it.

        Raises:
            RunDirectoryError: If the operating system reports an error, or another directory has its name now.
        """
        with os_errors_explained("make the folder", self.path):
            make_folder(self.path.parent)
            self.path.mkdir()
            sync_folder(self.path.parent)
        self.is_discarded = False
        self.lock()

    def _files(self) -> frozenset[Path]:
        with os_errors_explained("list", self.path):
            return frozenset(files_in(self.path))

    def _remove(self) -> None:
        self.unlock()
        with os_errors_explained("remove", self.path):
            shutil.rmtree(self.path)

    def remove_unless(self, has_results: Callable[[Path], bool]) -> bool:
        """Unlocks and removes the directory of a new run that ended without results.

        Args:
            has_results: Called with the path of the directory. Returns whether it has results. Results are never
                removed.

        Returns:
            Whether the directory was removed. Only a new directory is.

        Raises:
            RunDirectoryError: If the operating system reports an error.
        """
        if not self.is_new or not self.path.is_dir() or has_results(self.path):
            return False
        self.writes.join()  # a running write may be the first result
        if has_results(self.path):
            return False
        self._remove()
        _logger.warning("Removed the run directory %s: the run ended with no checkpoint and no network.", self.path)
        return True


def names_file_in(folder: Path, error: BaseException) -> bool:
    """Whether an error, its notes or its causes name an existing file of a folder.

    Args:
        folder: The folder.
        error: The error.
    """
    text = "".join(traceback.format_exception(error))
    # From the folder's own name on, so that relative paths are found, too.
    return any(str(path.relative_to(folder.parent)) in text for path in files_in(folder))


def _make_unused_folder(parent: Path, name: str) -> Path:
    path, number = parent / name, 1
    with os_errors_explained("make the folder", path):
        while True:
            try:
                path.mkdir()
            except FileExistsError:
                number += 1
                path = parent / f"{name}-{number}"
            else:
                sync_folder(parent)
                return path


def _is_inside(path: Path, folder: Path) -> bool:
    # Resolved first, because a link inside may lead outside.
    return Path(os.path.realpath(folder)) in Path(os.path.realpath(path)).parents


def _known_tags(parent: Path, tag: str) -> str:
    if not parent.is_dir():
        return f"To fix, check the folder of the runs: {parent} isn't a folder."
    with os_errors_explained("list", parent):
        tags = sorted((path.name for path in parent.iterdir() if path.is_dir()), reverse=True)
    if not tags:
        return f"To fix, check the folder of the runs: {parent} is empty."
    return f"{did_you_mean(tag, tags).strip()} Available, newest first: {', '.join(tags[:_TAGS_LISTED])}."
