"""Writing to the disk beside the training, in the order in which it is asked for."""

import logging
import threading
from collections.abc import Callable
from typing import Literal

from torchbase.errors import RunDirectoryError

logger = logging.getLogger("torchbase")


class BackgroundWrites:
    """Writes one thing after the other; after one that failed nothing more is written until its error was raised.

    So what is written later never stands on the disk without what it builds on. Each write is a daemon thread of its
    own, which begins when the one before it has ended: a program that is to end at once doesn't wait for it, and what
    is written is whole on the disk or not there.

    Attributes:
        on_error: What becomes of an error of the disk: it is raised where the training goes on, or told in a warning.
            Any other error is raised.
    """

    def __init__(self, on_error: Literal["raise", "warn"] = "raise") -> None:
        """Makes no thread yet.

        Args:
            on_error: See the attribute.
        """
        self.on_error: Literal["raise", "warn"] = on_error
        self._threads: dict[str, threading.Thread] = {}
        self._last: threading.Thread | None = None
        self._error: BaseException | None = None
        self._error_lock = threading.Lock()

    def submit(self, name: str, write: Callable[[], object]) -> None:
        """Hands over what is to be written, and waits for an earlier one of the same name first.

        Args:
            name: What it is, e.g. ``"checkpoint"``: of each name at most one waits or is being written.
            write: Writes it; called in a thread.

        Raises:
            BaseException: What an earlier write raised; see `check`.
        """
        self.wait(name)
        thread = threading.Thread(
            target=self._write, args=(write, self._last), name=f"torchbase writes: {name}", daemon=True
        )
        self._threads[name] = self._last = thread
        thread.start()

    def check(self) -> None:
        """Raises what a write has raised, once.

        Raises:
            BaseException: The error of the first write that failed since the last time.
        """
        if self._error is not None:
            with self._error_lock:
                error, self._error = self._error, None
            if isinstance(error, RunDirectoryError) and self.on_error == "warn":
                logger.warning("Training goes on, and what was kept before stays: %s", error)
            elif error is not None:
                raise error

    def wait(self, name: str | None = None) -> None:
        """Waits until what was handed over is on the disk.

        Args:
            name: What to wait for; without one for everything.

        Raises:
            BaseException: What a write raised; see `check`.
        """
        self.join(name)
        self.check()

    def join(self, name: str | None = None) -> None:
        """Waits likewise, and leaves it to a later `check` to raise an error.

        Args:
            name: What to wait for; without one for everything.
        """
        thread = self._last if name is None else self._threads.get(name)
        if thread is not None:
            thread.join()

    def _write(self, write: Callable[[], object], before: threading.Thread | None) -> None:
        if before is not None:
            before.join()
        if self._error is not None:
            return
        try:
            write()
        except BaseException as error:
            with self._error_lock:
                self._error = error
