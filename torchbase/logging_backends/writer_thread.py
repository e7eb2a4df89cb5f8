"""A thread that writes records beside the training, so that handing one over is all that an iteration does."""

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Generic, TypeVar

SECONDS_BETWEEN_BLOCKS = 0.5
MAXIMUM_BYTES_WAITING = 2**28
ITEMS_IN_A_ROW = 256

Item = TypeVar("Item")


class WriterThread(Generic[Item]):
    """Takes items in their order and lets one thread handle them, in blocks.

    The thread looks for items twice a second rather than at each: a thread that wakes up wants the interpreter, and the
    training would have to get it back. It is a daemon, so that a program that is to end doesn't wait for it.

    It does nothing while the process forks: a lock that it held then (of an import, of ``sys.stdout``) would stay held
    in the child for ever.

    Items wait in memory, 256 MiB of them at most. Where there are more, the training waits as long as the thread gets
    on. Once that has handled nothing for some seconds it is stuck: nothing waits for it any more, and what doesn't fit
    into the memory is left out, until it gets on again.
    """

    def __init__(
        self, name: str, handle: Callable[[Item], object], end_block: Callable[[], object], patience: float
    ) -> None:
        """Starts the thread.

        Args:
            name: The name of the thread.
            handle: Handles an item, in the thread. It must not raise.
            end_block: Called in the thread behind each block of items. It must not raise.
            patience: For how many seconds without any progress anything waits for the thread.
        """
        self._handle, self._end_block, self._patience = handle, end_block, patience
        self._items: deque[tuple[Item, int]] = deque()
        self._changed = threading.Condition()
        self._is_asked = threading.Event()
        self._bytes = self._taken = self._handled = self._finished = 0
        self._is_ending = self._is_stuck = False
        # Reentrant, since what the thread calls may fork as well.
        self._works = threading.RLock()
        self._forking: set[int] = set()
        self._fork_that_holds: int | None = None
        _register_at_fork(self)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: Item, size: int) -> bool:
        """Hands an item over.

        Args:
            item: The item; it must not be changed afterwards.
            size: How much memory it takes, in bytes, roughly.

        Returns:
            Whether it was taken. It isn't where the memory is full and the thread is stuck.
        """
        with self._changed:
            if self._bytes > MAXIMUM_BYTES_WAITING and not self._wait_until(self._has_room):
                return False
            self._items.append((item, size))
            self._bytes += size
            self._taken += 1
            return True

    def wait(self) -> bool:
        """Waits until all items that were handed over are handled, and their block is ended.

        Returns:
            Whether they are. They aren't where the thread is stuck.
        """
        with self._changed:
            taken = self._taken
            return self._wait_until(lambda: self._finished >= taken)

    def end(self) -> bool:
        """Waits like `wait`, and ends the thread.

        Returns:
            Whether all items are handled. A thread that is stuck is left to itself, and handles none of them any more.
        """
        is_done = self.wait()
        self._is_ending = True
        self._is_asked.set()
        if is_done:
            self._thread.join()
        return is_done

    def begin_fork(self) -> None:
        """Waits until the thread holds nothing; to be called before the process forks."""
        self._forking.add(threading.get_ident())  # no lock around it, which could itself be left held
        if self._works.acquire(timeout=0 if self._is_stuck else self._patience):
            self._fork_that_holds = threading.get_ident()
        else:
            self._is_stuck = True

    def end_fork(self) -> None:
        """Lets the thread go on; to be called after a fork, in the parent and in the child."""
        self._forking.discard(threading.get_ident())
        if self._fork_that_holds == threading.get_ident():
            self._fork_that_holds = None
            self._works.release()

    def _has_room(self) -> bool:
        return self._bytes <= MAXIMUM_BYTES_WAITING

    def _wait_until(self, is_so: Callable[[], bool]) -> bool:
        self._is_asked.set()
        while not is_so() and not self._is_stuck:
            handled = self._handled
            self._is_stuck = not self._changed.wait_for(is_so, self._patience) and self._handled == handled
        return is_so()

    def _run(self) -> None:
        while not self._is_ending:
            self._is_asked.wait(SECONDS_BETWEEN_BLOCKS)
            self._is_asked.clear()
            if self._items:
                self._handle_block(len(self._items))

    def _handle_block(self, count: int) -> None:
        end = self._handled + count
        while self._handled < end:
            with self._between_forks():
                size = self._handle_some(min(ITEMS_IN_A_ROW, end - self._handled))
            with self._changed:
                self._bytes -= size
                self._changed.notify_all()
        with self._between_forks():
            if not self._is_ending:
                self._end_block()
        with self._changed:
            self._finished = self._handled
            self._changed.notify_all()

    def _handle_some(self, count: int) -> int:
        sizes = 0
        for _ in range(count):
            if self._forking:
                break
            item, size = self._items.popleft()
            if not self._is_ending:  # else it was left to itself, and another one may write in its place by now
                self._handle(item)
            sizes += size
            self._handled += 1
            self._is_stuck = False
        return sizes

    @contextmanager
    def _between_forks(self) -> Iterator[None]:
        while self._forking:  # a lock goes to who asks first, and that would be this thread again and again
            time.sleep(0.001)
        with self._works:
            yield


def _register_at_fork(thread: WriterThread[Any]) -> None:
    if hasattr(os, "register_at_fork"):  # not on Windows, which doesn't fork
        # What was registered stays registered for ever, so it must not keep the thread's items.
        reference = weakref.ref(thread)
        end = partial(_call, reference, WriterThread.end_fork)
        os.register_at_fork(
            before=partial(_call, reference, WriterThread.begin_fork), after_in_parent=end, after_in_child=end
        )


def _call(reference: "weakref.ref[WriterThread[Any]]", method: Callable[[WriterThread[Any]], None]) -> None:
    thread = reference()
    if thread is not None:
        method(thread)
