"""Threads that train take turns, since the global random streams are those of the process."""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_SECONDS_OF_SILENT_WAITING = 1.0
_logger = logging.getLogger("torchbase")


class _Turns:
    """A lock that one thread at a time holds, and may take again."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        if hasattr(os, "register_at_fork"):  # not on Windows, which doesn't fork
            os.register_at_fork(after_in_child=self._free_in_child)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Waits until no other thread of this process trains, evaluates or builds parts, and lets none begin meanwhile.

        A thread that is inside may enter again.

        Yields:
            Nothing.
        """
        lock = self._lock
        if not lock.acquire(timeout=_SECONDS_OF_SILENT_WAITING):
            _logger.warning(
                "The thread '%s' waits until another thread has finished training or evaluating, since all threads of "
                "a process share the global random streams, and neither would be exact. To train at the same time, use "
                "processes. If the other thread waits for this one, neither continues: do the work in that thread.",
                threading.current_thread().name,
            )
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _free_in_child(self) -> None:
        if self._lock.acquire(blocking=False):
            self._lock.release()
        else:  # held by a thread that the child doesn't have
            self._lock = threading.RLock()


# Global, since what it protects is: the streams of the process.
one_thread_at_a_time = _Turns().taken
