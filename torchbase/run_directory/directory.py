"""The directory of one run: made under a name that tells when and where, found again by it, written by one process."""

import logging
import os
import re
import shutil
import socket
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from torchbase.errors import RunDirectoryError, RunDirectoryLockedError, did_you_mean
from torchbase.files.background_writes import BackgroundWrites
from torchbase.files.durable import make_folder, os_errors_explained, sync_folder
from torchbase.run_directory.lock import LOCK_FILE
from torchbase.run_directory.names import STATES_FOLDER

# Far longer than `is_locked` holds the lock, or a child of a killed process that is about to become another program.
SECONDS_OF_A_GLANCE = 1.0
_POSTFIX = re.compile(r"[A-Za-z0-9._-]+")
_TAGS_LISTED = 5
_logger = logging.getLogger("torchbase")


class RunDirectory:
    """What one run keeps on disk.

    Made by `create` or found by `open`.

    Attributes:
        path: The directory.
        tag: Its name, ``YYYY-MM-DD_HH-MM-SS_host`` with the postfix, if any.
        is_new: Whether this session made it, in contrast to one that was there.
        writes: A thread that writes into it beside the training.
    """

    def __init__(self, path: Path, is_new: bool) -> None:
        self.path = path
        self.tag = path.name
        self.is_new = is_new
        self.writes = BackgroundWrites()
        # Hooks may write from a thread of their own, under the same lock.
        self._lock = FileLock(path / LOCK_FILE, timeout=SECONDS_OF_A_GLANCE, thread_local=False)
        self._is_wanted, self._wanted_lock = False, threading.Lock()

    @classmethod
    def create(cls, parent: Path | str, postfix: str | None = None) -> "RunDirectory":
        """Make the directory of a new run.

        Args:
            parent: The folder of all runs, made where it is missing.
            postfix: Ends the tag, for people to recognise the run by: letters, digits, ``.``, ``_`` and ``-``.

        Returns:
            A directory that no other session got, even one that began in the same second.

        Raises:
            RunDirectoryError: The postfix holds other characters, or the operating system refused.
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
        """Find the directory of an earlier run.

        Args:
            parent: The folder of all runs.
            tag: The name of the run's directory in it.

        Returns:
            The directory, not locked yet.

        Raises:
            RunDirectoryError: The tag isn't the name of a directory in ``parent``.
        """
        parent = Path(parent).absolute()
        path = parent / tag
        # Compared as text, because a path forgets a separator at its end and a "." in its middle.
        if tag in {"", ".", ".."} or "\0" in tag or "\\" in tag or path.name != tag:
            raise RunDirectoryError(
                f"{tag!r} isn't the tag of a run. To fix, give the plain name of a directory in {parent}, no path."
            )
        if not _is_inside(path, parent):
            raise RunDirectoryError(f"{path} leads out of {parent}, to {os.path.realpath(path)}: it is not opened.")
        if not path.is_dir():
            raise RunDirectoryError(f"There is no run directory {path}. {_known_tags(parent, tag)}")
        return cls(path, is_new=False)

    @property
    def states(self) -> Path:
        """The folder of the checkpoints and of what continues the run, made when first asked for."""
        return make_folder(self.path / STATES_FOLDER)

    def file(self, name: str) -> Path:
        """Tell the path of a file in the directory, and make the folders that lead to it.

        Args:
            name: The file's name, relative to the directory ("states/seeds.json").

        Returns:
            The path, which may be that of no file yet.

        Raises:
            RunDirectoryError: The name leads out of the directory, or the operating system refused.
        """
        path = self.path / name
        if "\0" in name or ".." in Path(name).parts or not _is_inside(path, self.path):
            raise RunDirectoryError(
                f"{name!r} isn't a file inside the run directory {self.path}. "
                "To fix, give a relative name without '..', such as 'states/seeds.json'."
            )
        make_folder(path.parent)
        return path

    def lock(self) -> None:
        """Reserve the directory until `unlock`, or until this object or the process ends in whatever way.

        Raises:
            RunDirectoryLockedError: Another session has reserved it.
            RunDirectoryError: The directory is gone, or the operating system refused.
        """
        with self._wanted_lock:
            self._is_wanted = True
            if self._lock.is_locked:
                return
        if not self.path.is_dir():  # locking would make it anew, without its config and seed
            raise RunDirectoryError(
                f"The run directory {self.path} is not there any more. To fix, make a new session for a new run."
            )
        with os_errors_explained("lock", self.path):
            try:
                self._lock.acquire(poll_interval=SECONDS_OF_A_GLANCE / 10)
            except Timeout as error:
                raise RunDirectoryLockedError(
                    f"Another session writes the run directory {self.path}. "
                    "To fix, wait until it has ended, or end it; or begin a run of its own."
                ) from error

    def unlock(self) -> None:
        """Give the directory free for other sessions, once nothing is being written into it any more.

        Nothing happens when this object hasn't locked it.
        """
        self._is_wanted = False
        self.writes.call_when_written(self._release_unless_wanted_again)

    def _release_unless_wanted_again(self) -> None:
        with self._wanted_lock:
            if not self._is_wanted:
                self._lock.release()

    def remove_unless(self, has_results: Callable[[Path], bool]) -> bool:
        """Unlock and remove the directory of a new run that ended without results, so that such runs don't pile up.

        Args:
            has_results: Says whether the directory of that path has results, which are never removed.

        Returns:
            Whether it was removed. Only a new one is.

        Raises:
            RunDirectoryError: The operating system refused.
        """
        if not self.is_new or not self.path.is_dir() or has_results(self.path):
            return False
        self.writes.join()  # what is being written now may be the first result
        if has_results(self.path):
            return False
        self.unlock()
        with os_errors_explained("remove", self.path):
            shutil.rmtree(self.path)
        _logger.warning("The run directory %s is removed: the run ended with no checkpoint and no network.", self.path)
        return True


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
    # Links are followed first, because a name inside may lead outside.
    return Path(os.path.realpath(folder)) in Path(os.path.realpath(path)).parents


def _known_tags(parent: Path, tag: str) -> str:
    if not parent.is_dir():
        return f"To fix, check the folder of the runs: {parent} isn't a folder."
    with os_errors_explained("list", parent):
        tags = sorted((path.name for path in parent.iterdir() if path.is_dir()), reverse=True)
    if not tags:
        return f"To fix, check the folder of the runs: {parent} is empty."
    return f"{did_you_mean(tag, tags).strip()} The newest there are: {', '.join(tags[:_TAGS_LISTED])}."
