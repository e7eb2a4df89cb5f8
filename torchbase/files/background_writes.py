"""Writing to the disk in the background while the network trains, in the order in which writes are submitted."""

import logging
import threading
from collections.abc import Callable
from typing import Literal

from torchbase.errors import RunDirectoryError

logger = logging.getLogger("torchbase")


class BackgroundWrites:
    """Runs writes one after another. After a failed write, nothing is written until its error has been raised.

    If a disk error is only logged as a warning, the failed write and those after it are retried before the next write.
    So a file is never on the disk without the files that it depends on. Each write runs in its own daemon thread,
    which starts after the thread before it has ended. A program that ends at once doesn't wait for these threads.

    Attributes:
        on_error: What to do with a disk error: ``"raise"`` raises it in the training thread, ``"warn"`` logs a warning.
            Any other error is raised.
    """

    def __init__(self, on_error: Literal["raise", "warn"] = "raise") -> None:
        """Makes an empty queue of writes.

        Args:
            on_error: See the attribute.
        """
        self.on_error: Literal["raise", "warn"] = on_error
        self._pending: dict[str, Callable[[], object]] = {}
        self._threads: dict[str, _Thread] = {}
        self._last: _Thread | None = None

    def submit(self, name: str, write: Callable[[], object]) -> None:
        """Submits a write. Waits first for an earlier write of the same name.

        Args:
            name: The name of the write, e.g. ``"checkpoint"``. At most one write of a name is pending or running.
            write: The function that writes. It is called in a thread.

        Raises:
            BaseException: The error of an earlier write; see `check`.
        """
        self.wait(name)
        self._pending.pop(name, None)
        self._pending[name] = write
        self._start([name] if self._last is not None else list(self._pending))

    def check(self) -> None:
        """Raises the error of a failed write, once.

        Raises:
            BaseException: The error of the first write that failed since the last call.
        """
        if self._last is not None and self._last.error is not None:
            error, self._last = self._last.error, None
            if not isinstance(error, RunDirectoryError) or self.on_error == "raise":
                self._pending.clear()
                raise error
            logger.warning("The training continues, and earlier files stay: %s", error)

    def wait(self, name: str | None = None) -> None:
        """Waits until the submitted writes are on the disk.

        Args:
            name: The name of the write to wait for; None waits for all.

        Raises:
            BaseException: The error of a write; see `check`.
        """
        self.join(name)
        self.check()

    def finish(self) -> None:
        """Waits until all writes are on the disk. Retries once the writes that failed or were skipped.

        Raises:
            BaseException: The error of a write; see `check`.
        """
        self.wait()
        if self._pending:
            self._start(list(self._pending))
            self.wait()

    def retry(self) -> None:
        """Starts the writes again that failed or were skipped, if their error was checked."""
        if self._pending and self._last is None:
            self._start(list(self._pending))

    def until_now(self) -> Callable[[], None]:
        """Returns a function that waits for the writes that were submitted so far, in any thread.

        It raises their error, if they had one. A later `check` raises it, too.
        """
        last = self._last

        def wait() -> None:
            if last is not None:
                last.join()
                if last.error is not None:
                    raise last.error

        return wait

    def join(self, name: str | None = None) -> None:
        """Waits until the submitted writes have ended. A later `check` raises their errors.

        Args:
            name: The name of the write to wait for; None waits for all.
        """
        thread = self._last if name is None else self._threads.get(name)
        if thread is not None:
            thread.join()

    def call_when_written(self, action: Callable[[], object]) -> None:
        """Calls a function once no write is running: at once, or later in a thread.

        Args:
            action: The function to call.
        """
        if self._last is not None and self._last.is_alive():
            _CallAfter(self._last, action).start()
        else:
            action()

    def _start(self, names: list[str]) -> None:
        self._last = _Thread(self._pending, names, before=self._last)
        self._threads.update(dict.fromkeys(names, self._last))
        self._last.start()


class _Thread(threading.Thread):
    """A thread that runs some of the pending writes, unless the thread before it failed.

    It takes over the error of the thread before it. So the last thread has any error, and only after all threads have
    ended: when the error is raised, no write is running.
    """

    def __init__(self, pending: dict[str, Callable[[], object]], names: list[str], before: "_Thread | None") -> None:
        super().__init__(name="torchbase writes", daemon=True)
        self.error: BaseException | None = None
        self._pending, self._names, self._before = pending, names, before

    def run(self) -> None:
        if self._before is not None:
            self._before.join()
            before, self._before = self._before, None
            if before.error is not None:
                self.error = before.error
                return
        try:
            for name in self._names:
                self._pending[name]()
                del self._pending[name]
        except BaseException as error:
            self.error = error


class _CallAfter(threading.Thread):
    def __init__(self, before: threading.Thread, action: Callable[[], object]) -> None:
        super().__init__(name="torchbase after writes", daemon=True)
        self._before, self._action = before, action

    def run(self) -> None:
        self._before.join()
        self._action()
