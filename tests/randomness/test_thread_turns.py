import logging
import os
import threading

import pytest
import torch

from torchbase.randomness.thread_turns import one_thread_at_a_time


def test_threads_have_the_streams_one_at_a_time_and_each_may_enter_again():
    inside, seen, start = [], [], threading.Barrier(4)

    def enter():
        start.wait()
        with one_thread_at_a_time(), one_thread_at_a_time():
            inside.append(1)
            seen.append(len(inside))
            torch.rand(1000).sort()
            inside.pop()

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert seen == [1, 1, 1, 1]


class SetOnRecord(logging.Handler):
    """Sets an event when something is logged."""

    def __init__(self, event):
        super().__init__()
        self.event = event

    def emit(self, record):
        self.event.set()


def test_a_thread_that_waits_longer_says_so(caplog):
    warned, entered = threading.Event(), []

    def enter():
        with one_thread_at_a_time():
            entered.append(True)

    waiting = threading.Thread(target=enter, name="the second")
    handler = SetOnRecord(warned)
    logging.getLogger("torchbase").addHandler(handler)
    try:
        with one_thread_at_a_time():
            waiting.start()
            assert warned.wait(timeout=600)
            assert entered == []
        waiting.join()
    finally:
        logging.getLogger("torchbase").removeHandler(handler)
    assert entered == [True]
    assert "The thread 'the second' waits until another thread" in caplog.text


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system doesn't fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
@pytest.mark.parametrize("held_by_the_forking_thread", [False, True])
def test_a_forked_process_does_not_wait_for_a_thread_that_it_does_not_have(held_by_the_forking_thread):
    def enter_in_a_child():
        if child := os.fork():
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        status = 1
        try:
            with one_thread_at_a_time():
                status = 0
        finally:
            os._exit(status)

    exit_codes = []
    fork = threading.Thread(target=lambda: exit_codes.append(enter_in_a_child()))
    with one_thread_at_a_time():
        if held_by_the_forking_thread:
            exit_codes.append(enter_in_a_child())
        else:
            fork.start()
            fork.join()
    assert exit_codes == [0]
