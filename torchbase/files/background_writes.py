"""Writing to the disk beside the training, in the order in which it is asked for."""

import logging
import threading
from collections.abc import Callable
from typing import Literal

from torchbase.errors import RunDirectoryError

logger = logging.getLogger("torchbase")


class BackgroundWrites:
    """Writes one thing after the other, and nothing behind one that failed until its error was raised.

    Where an error of the disk is only told in a warning, what is left is tried again before the next write. So what is
    written later never stands on the disk without what it builds on. Each write is a daemon thread of its own, which
    begins when the one before it has ended: a program that is to end at once doesn't wait for it, and what is written
    is whole on the disk or not there.

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
        self._due: dict[str, Callable[[], object]] = {}
        self._threads: dict[str, _Thread] = {}
        self._last: _Thread | None = None

    def submit(self, name: str, write: Callable[[], object]) -> None:
        """Hands over what is to be written, and waits for an earlier one of the same name first.

        Args:
            name: What it is, e.g. ``"checkpoint"``: of each name at most one waits or is being written.
            write: Writes it; called in a thread.

        Raises:
            BaseException: What an earlier write raised; see `check`.
        """
        self.wait(name)
        self._due.pop(name, None)
        self._due[name] = write
        self._start([name] if self._last is not None else list(self._due))

    def check(self) -> None:
        """Raises what a write has raised, once.

        Raises:
            BaseException: The error of the first write that failed since the last time.
        """
        if self._last is not None and self._last.error is not None:
            error, self._last = self._last.error, None
            if not isinstance(error, RunDirectoryError) or self.on_error == "raise":
                self._due.clear()
                raise error
            logger.warning("Training goes on, and what was kept before stays: %s", error)

    def wait(self, name: str | None = None) -> None:
        """Waits until what was handed over is on the disk.

        Args:
            name: What to wait for; without one for everything.

        Raises:
            BaseException: What a write raised; see `check`.
        """
        self.join(name)
        self.check()

    def finish(self) -> None:
        """Waits until everything is on the disk, and tries once more what is left because a write failed.

        Raises:
            BaseException: What a write raised; see `check`.
        """
        self.wait()
        if self._due:
            self._start(list(self._due))
            self.wait()

    def join(self, name: str | None = None) -> None:
        """Waits until it isn't being written any more, and leaves it to a later `check` to raise an error.

        Args:
            name: What to wait for; without one for everything.
        """
        thread = self._last if name is None else self._threads.get(name)
        if thread is not None:
            thread.join()

    def call_when_written(self, action: Callable[[], object]) -> None:
        """Does something once nothing is being written: at once, or in a thread.

        Args:
            action: What to do.
        """
        if self._last is not None and self._last.is_alive():
            _Afterwards(self._last, action).start()
        else:
            action()

    def _start(self, names: list[str]) -> None:
        self._last = _Thread(self._due, names, before=self._last)
        self._threads.update(dict.fromkeys(names, self._last))
        self._last.start()


class _Thread(threading.Thread):
    """Writes some of what is due, unless the thread before it has failed.

    The error of that becomes its own. So the last thread of all knows of every error, and only when it has no more to
    do: nothing is written any more when the error is told.
    """

    def __init__(self, due: dict[str, Callable[[], object]], names: list[str], before: "_Thread | None") -> None:
        super().__init__(name="torchbase writes", daemon=True)
        self.error: BaseException | None = None
        self._due, self._names, self._before = due, names, before

    def run(self) -> None:
        if self._before is not None:
            self._before.join()
            before, self._before = self._before, None
            if before.error is not None:
                self.error = before.error
                return
        try:
            for name in self._names:
                self._due[name]()
                del self._due[name]
        except BaseException as error:
            self.error = error


class _Afterwards(threading.Thread):
    def __init__(self, before: threading.Thread, action: Callable[[], object]) -> None:
        super().__init__(name="torchbase after writes", daemon=True)
        self._before, self._action = before, action

    def run(self) -> None:
        self._before.join()
        self._action()
