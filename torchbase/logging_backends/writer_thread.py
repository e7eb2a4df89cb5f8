"""A thread that writes records beside the training: an iteration only queues its records."""

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
ITEMS_BETWEEN_NOTIFICATIONS = 256

Item = TypeVar("Item")


class WriterThread(Generic[Item]):
    """Queues items, and handles them in order and in blocks, in one thread.

    The thread checks for items twice a second rather than at each item: a thread that wakes up takes the interpreter
    from the training. It is a daemon thread, so a program that exits doesn't wait for it.

    It pauses while the process forks: a lock that it held at that moment (of an import, of ``sys.stdout``) would remain
    locked in the child for ever.

    Items wait in memory, up to 256 MiB. When more arrive, the training waits as long as the thread makes progress. A
    thread that handles nothing for some seconds is stuck: the training stops waiting for it, and items that don't fit
    into the memory are dropped until the thread makes progress again.
    """

    def __init__(
        self, name: str, handle: Callable[[Item], object], end_block: Callable[[], object], patience: float
    ) -> None:
        """Starts the thread.

        Args:
            name: The name of the thread.
            handle: Handles an item, in the thread. It must not raise.
            end_block: Called in the thread after each block of items. It must not raise.
            patience: How many seconds without progress to wait for the thread.
        """
        self._handle, self._end_block, self._patience = handle, end_block, patience
        self._items: deque[tuple[Item, int]] = deque()
        self._changed = threading.Condition()
        self._wake_up = threading.Event()
        self._bytes = self._queued = self._handled = self._finished = 0
        self._is_ending = self._is_stuck = False
        # Reentrant, since what the thread calls may fork, too.
        self._work_lock = threading.RLock()
        self._forking: set[int] = set()
        self._fork_with_lock: int | None = None
        _threads[id(self)] = self
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: Item, size: int) -> bool:
        """Queues an item.

        Args:
            item: The item; it must not be changed afterwards.
            size: Its approximate size in memory, in bytes.

        Returns:
            Whether the item was queued. It is not if the memory is full and the thread is stuck.
        """
        with self._changed:
            if self._bytes > MAXIMUM_BYTES_WAITING and not self._wait_until(self._has_room):
                return False
            self._items.append((item, size))
            self._bytes += size
            self._queued += 1
            return True

    def wait(self) -> bool:
        """Waits until all queued items are handled and their block is ended.

        Returns:
            Whether they are. They are not if the thread is stuck.
        """
        with self._changed:
            queued = self._queued
            return self._wait_until(lambda: self._finished >= queued)

    def end(self) -> bool:
        """Waits like `wait`, and ends the thread.

        Returns:
            Whether all items are handled. A stuck thread is abandoned and handles no more items.
        """
        is_done = self.wait()
        self._is_ending = True
        self._wake_up.set()
        if is_done:
            self._thread.join()
        return is_done

    def begin_fork(self) -> None:
        """Waits until the thread holds no lock. Called before the process forks."""
        self._forking.add(threading.get_ident())  # without a lock, which a fork could leave locked
        if self._work_lock.acquire(timeout=0 if self._is_stuck else self._patience):
            self._fork_with_lock = threading.get_ident()
        else:
            self._is_stuck = True

    def end_fork(self) -> None:
        """Lets the thread continue. Called after a fork, in the parent and in the child."""
        self._forking.discard(threading.get_ident())
        if self._fork_with_lock == threading.get_ident():
            self._fork_with_lock = None
            self._work_lock.release()

    def _has_room(self) -> bool:
        return self._bytes <= MAXIMUM_BYTES_WAITING

    def _wait_until(self, condition: Callable[[], bool]) -> bool:
        self._wake_up.set()
        while not condition() and not self._is_stuck:
            handled = self._handled
            self._is_stuck = not self._changed.wait_for(condition, self._patience) and self._handled == handled
        return condition()

    def _run(self) -> None:
        while not self._is_ending:
            self._wake_up.wait(SECONDS_BETWEEN_BLOCKS)
            self._wake_up.clear()
            if self._items:
                self._handle_block(len(self._items))

    def _handle_block(self, count: int) -> None:
        end = self._handled + count
        while self._handled < end:
            with self._between_forks():
                size = self._handle_some(min(ITEMS_BETWEEN_NOTIFICATIONS, end - self._handled))
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
            if not self._is_ending:  # else this thread was abandoned, and another may write in its place by now
                self._handle(item)
            sizes += size
            self._handled += 1
            self._is_stuck = False
        return sizes

    @contextmanager
    def _between_forks(self) -> Iterator[None]:
        while self._forking:  # else this thread would take the lock again before the fork can
            time.sleep(0.001)
        with self._work_lock:
            yield


# Registered once, since functions at fork stay registered for ever: one for each thread would add up.
_threads: "weakref.WeakValueDictionary[int, WriterThread[Any]]" = weakref.WeakValueDictionary()


def _call_all(method: Callable[[WriterThread[Any]], None]) -> None:
    for reference in _threads.valuerefs():  # a copy, made without a lock, which a fork could leave locked
        thread = reference()
        if thread is not None:
            method(thread)


if hasattr(os, "register_at_fork"):  # not on Windows, which doesn't fork
    _end_fork = partial(_call_all, WriterThread.end_fork)
    os.register_at_fork(
        before=partial(_call_all, WriterThread.begin_fork), after_in_parent=_end_fork, after_in_child=_end_fork
    )
