import os
import threading
import time
import warnings

import pytest

from torchbase.logging_backends import writer_thread
from torchbase.logging_backends.writer_thread import WriterThread

SECONDS_AT_MOST = 60.0  # far more than needed, so that it is a hang that fails and not a busy machine


def thread_of(handle, end_block=lambda: None, patience=SECONDS_AT_MOST):
    return WriterThread("for a test", handle, end_block, patience)


class Valve:
    """Handles an item only while it is open."""

    def __init__(self):
        self.handled, self.opened, self.entered = [], threading.Event(), threading.Event()

    def __call__(self, item):
        self.entered.set()
        self.opened.wait(SECONDS_AT_MOST)
        self.handled.append(item)


def test_items_are_handled_in_order_by_one_thread_in_blocks():
    handled, threads, blocks = [], set(), []

    def handle(item):
        handled.append(item)
        threads.add(threading.current_thread())

    thread = thread_of(handle, lambda: blocks.append(len(handled)))
    for item in range(1000):
        assert thread.put(item, 1)
    assert thread.wait()
    assert handled == list(range(1000))
    assert blocks[-1] == 1000
    assert thread.end()
    (worker,) = threads
    assert worker is not threading.current_thread()
    assert worker.daemon
    assert not worker.is_alive()


def test_queued_items_are_handled_soon_without_waiting_for_them():
    handled = threading.Event()
    thread = thread_of(lambda item: handled.set())
    thread.put("item", 1)
    assert handled.wait(SECONDS_AT_MOST)
    assert thread.end()


def test_the_caller_waits_for_free_memory_while_the_thread_makes_progress(monkeypatch):
    monkeypatch.setattr(writer_thread, "MAXIMUM_BYTES_WAITING", 10)
    monkeypatch.setattr(writer_thread, "ITEMS_BETWEEN_NOTIFICATIONS", 4)
    handled, most = [], 0

    def handle(item):
        time.sleep(0.001)
        handled.append(item)

    thread = thread_of(handle)
    for item in range(100):
        assert thread.put(item, 1)
        most = max(most, item + 1 - len(handled))
    assert thread.end()
    assert handled == list(range(100))
    assert most <= 10 + 4 + 1


def test_items_are_dropped_after_one_wait_if_the_memory_is_full_and_the_thread_is_stuck(monkeypatch):
    monkeypatch.setattr(writer_thread, "MAXIMUM_BYTES_WAITING", 10)
    valve = Valve()
    thread = thread_of(valve, patience=0.2)
    waits = waits_of(thread)
    thread.put("first", 11)
    assert {thread.put(item, 1) for item in range(50)} == {False}
    assert waits == [0.2]
    valve.opened.set()
    assert wait_until(lambda: valve.handled == ["first"])
    assert thread.put("later", 1)
    assert thread.end()
    assert valve.handled == ["first", "later"]


def waits_of(thread):
    """The seconds of each wait for the thread's progress, from now on."""
    waits, wait_for = [], thread._changed.wait_for

    def noted(is_so, seconds):
        waits.append(seconds)
        return wait_for(is_so, seconds)

    thread._changed.wait_for = noted
    return waits


def wait_until(condition):
    deadline = time.monotonic() + SECONDS_AT_MOST
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    return condition()


def test_the_caller_waits_for_a_stuck_thread_once_and_again_after_progress():
    valve = Valve()
    thread = thread_of(valve, patience=0.2)
    waits = waits_of(thread)
    thread.put(1, 1)
    assert not thread.wait()
    assert not thread.wait()
    assert waits == [0.2]
    valve.opened.set()
    assert wait_until(lambda: valve.handled == [1])
    assert thread.wait()
    assert thread.end()


def test_the_caller_waits_longer_for_a_slow_thread_that_makes_progress(monkeypatch):
    monkeypatch.setattr(writer_thread, "ITEMS_BETWEEN_NOTIFICATIONS", 1)
    may_handle, handled, patiences = threading.Semaphore(0), [], []

    def handle(item):
        may_handle.acquire(timeout=SECONDS_AT_MOST)
        handled.append(item)

    thread = thread_of(handle, patience=0.2)
    wait_for = thread._changed.wait_for

    def end_after_one_item(is_so, seconds):
        patiences.append(seconds)
        before = thread._handled
        may_handle.release()
        assert wait_for(lambda: thread._handled > before or is_so(), SECONDS_AT_MOST)
        return is_so()

    thread._changed.wait_for = end_after_one_item
    for item in range(12):
        thread.put(item, 1)
    assert thread.wait()
    assert handled == list(range(12))
    assert len(patiences) >= 12
    assert set(patiences) == {0.2}
    assert thread.end()


def test_a_stuck_thread_that_was_ended_handles_no_more_items():
    valve, blocks = Valve(), []
    thread = thread_of(valve, lambda: blocks.append(len(valve.handled)), patience=0.1)
    for item in range(5):
        thread.put(item, 1)
    thread._wake_up.set()
    assert valve.entered.wait(SECONDS_AT_MOST)
    worker = thread._thread
    assert not thread.end()
    valve.opened.set()
    worker.join(SECONDS_AT_MOST)
    assert not worker.is_alive()
    assert valve.handled == [0]
    assert blocks == []


def exit_status_of_a_fork(child):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer versions of Python warn when a process with threads forks
        process = os.fork()
    if process == 0:
        os._exit(0 if child() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@needs_fork
def test_a_forked_child_inherits_no_lock_of_the_thread():
    lock = threading.Lock()

    def handle(item):
        with lock:
            time.sleep(0.002)

    thread = thread_of(handle)
    for item in range(400):
        thread.put(item, 1)
    thread._wake_up.set()
    for _ in range(20):
        time.sleep(0.003)
        assert exit_status_of_a_fork(lambda: lock.acquire(blocking=False)) == 0
    assert thread.end()


class NotedLock:
    """A reentrant lock that notes for how long others than its holder waited for it."""

    def __init__(self):
        self.lock, self.timeouts = threading.RLock(), []

    def acquire(self, timeout):
        self.timeouts.append(timeout)
        return self.lock.acquire(timeout=timeout)

    def release(self):
        self.lock.release()

    def __enter__(self):
        return self.lock.__enter__()

    def __exit__(self, *error):
        return self.lock.__exit__(*error)


@needs_fork
def test_a_fork_waits_for_a_stuck_thread_once():
    valve = Valve()
    thread = thread_of(valve, patience=0.3)
    thread._work_lock = NotedLock()
    thread.put(1, 1)
    thread._wake_up.set()
    assert valve.entered.wait(SECONDS_AT_MOST)
    for _ in range(5):
        assert exit_status_of_a_fork(lambda: True) == 0
    assert thread._work_lock.timeouts == [0.3, 0, 0, 0, 0]
    valve.opened.set()
    assert wait_until(lambda: valve.handled == [1])
    assert thread.end()


@needs_fork
def test_the_thread_itself_may_fork():
    statuses = []
    thread = thread_of(lambda item: statuses.append(exit_status_of_a_fork(lambda: True)))
    thread.put(1, 1)
    assert thread.end()
    assert statuses == [0]


def test_two_threads_may_fork_at_the_same_time():
    # No real fork: filelock refuses two forks at the same time since its version 4.
    forks, forks_while_handling = [], []
    thread = thread_of(lambda item: forks_while_handling.extend(forks))

    def fork(name, has_begun, may_end):
        thread.begin_fork()
        forks.append(name)
        has_begun.set()
        may_end.wait(SECONDS_AT_MOST)
        forks.remove(name)
        thread.end_fork()

    events = [(threading.Event(), threading.Event()) for _ in range(2)]
    forking = [threading.Thread(target=fork, args=(number, *both)) for number, both in enumerate(events)]
    (first_has_begun, first_may_end), (second_has_begun, second_may_end) = events
    forking[0].start()
    assert first_has_begun.wait(SECONDS_AT_MOST)
    forking[1].start()
    assert wait_until(lambda: len(thread._forking) == 2)
    for item in range(200):
        thread.put(item, 1)
    thread._wake_up.set()
    assert wait_until(lambda: not thread._wake_up.is_set())
    first_may_end.set()
    assert second_has_begun.wait(SECONDS_AT_MOST)
    second_may_end.set()
    for forker in forking:
        forker.join()
    assert thread.end()
    assert thread._handled == 200
    assert forks_while_handling == []
