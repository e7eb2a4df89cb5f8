import os
import threading
import time
import warnings

import pytest

from torchbase.logging_backends import writer_thread
from torchbase.logging_backends.writer_thread import WriterThread


def thread_of(handle, end_block=lambda: None, patience=10.0):
    return WriterThread("for a test", handle, end_block, patience)


class Valve:
    """Handles an item only while it is open."""

    def __init__(self):
        self.handled, self.opened, self.entered = [], threading.Event(), threading.Event()

    def __call__(self, item):
        self.entered.set()
        self.opened.wait(20)
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
    assert handled.wait(5 * writer_thread.SECONDS_BETWEEN_BLOCKS)
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
    thread.put("first", 11)
    started_at = time.monotonic()
    assert {thread.put(item, 1) for item in range(50)} == {False}
    assert 0.2 <= time.monotonic() - started_at < 2
    valve.opened.set()
    assert wait_until(lambda: valve.handled == ["first"])
    assert thread.put("later", 1)
    assert thread.end()
    assert valve.handled == ["first", "later"]


def wait_until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    return condition()


def test_the_caller_waits_for_a_stuck_thread_once_and_again_after_progress():
    valve = Valve()
    thread = thread_of(valve, patience=0.2)
    thread.put(1, 1)
    started_at = time.monotonic()
    assert not thread.wait()
    assert time.monotonic() - started_at >= 0.2
    started_at = time.monotonic()
    assert not thread.wait()
    assert time.monotonic() - started_at < 0.15
    valve.opened.set()
    assert wait_until(lambda: valve.handled == [1])
    assert thread.wait()
    assert thread.end()


def test_the_caller_waits_longer_for_a_slow_thread_that_makes_progress():
    handled = []

    def handle(item):
        time.sleep(0.05)
        handled.append(item)

    thread = thread_of(handle, patience=0.2)
    for item in range(12):
        thread.put(item, 1)
    assert thread.wait()
    assert len(handled) == 12
    assert thread.end()


def test_a_stuck_thread_that_was_ended_handles_no_more_items():
    valve, blocks = Valve(), []
    thread = thread_of(valve, lambda: blocks.append(len(valve.handled)), patience=0.1)
    for item in range(5):
        thread.put(item, 1)
    assert not thread.end()
    (worker,) = [running for running in threading.enumerate() if running.name == "for a test"]
    valve.opened.set()
    worker.join(10)
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
        assert exit_status_of_a_fork(lambda: lock.acquire(timeout=0.5)) == 0
    assert thread.end()


@needs_fork
def test_a_fork_waits_for_a_stuck_thread_once():
    valve = Valve()
    thread = thread_of(valve, patience=0.3)
    thread.put(1, 1)
    thread._wake_up.set()
    assert valve.entered.wait(10)
    started_at = time.monotonic()
    for _ in range(5):
        assert exit_status_of_a_fork(lambda: True) == 0
    assert 0.3 <= time.monotonic() - started_at < 1.2
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


@needs_fork
def test_two_threads_may_fork_at_the_same_time():
    handled, statuses = [], []

    def handle(item):
        time.sleep(0.001)
        handled.append(item)

    thread = thread_of(handle)
    for item in range(200):
        thread.put(item, 1)
    thread._wake_up.set()
    forking = [
        threading.Thread(target=lambda: statuses.extend(exit_status_of_a_fork(lambda: True) for _ in range(10)))
        for _ in range(2)
    ]
    for forker in forking:
        forker.start()
    for forker in forking:
        forker.join()
    assert statuses == [0] * 20
    assert thread.end()
    assert len(handled) == 200
