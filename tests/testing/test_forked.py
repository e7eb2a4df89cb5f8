import os
import signal
import sys
import threading
import time

import pytest
import several
import torch

from torchbase.testing.forked import Ended, forked, reason_against_forking, wait_for


def describe(index):
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR")
    return index, [os.environ[name] for name in names], torch.get_num_threads()


def test_each_process_is_taken_for_one_of_a_launcher():
    for index, (number, variables, threads) in enumerate(several.values_of(2, describe)):
        assert number == index
        assert variables == [str(index), str(index), "2", "2", "127.0.0.1"]
        assert threads == 1
    assert "RANK" not in os.environ


def fail_in_two_ways(index):
    if index == 0:
        raise OSError("no such account")
    if index == 1:
        return lambda: None  # which can't be sent
    return torch.arange(3)


def test_errors_are_texts_and_tensors_are_sent():
    first, second, third = several.run(3, fail_in_two_ways)
    assert first.value is None
    assert first.error.endswith("OSError: no such account\n")
    assert "lambda" in second.error
    assert (third.value.tolist(), third.error, third.exit_code) == ([0, 1, 2], None, 0)


def kill_itself_or_wait(index):
    if index == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(1000)


def test_a_killed_process_and_a_late_one_are_ended():
    with forked(2, kill_itself_or_wait) as processes:
        killed, late = wait_for(processes, 5)
    assert killed == Ended(None, None, -signal.SIGKILL)
    assert late == Ended(None, "it had not ended after 5 seconds", -signal.SIGKILL)


def test_an_error_meanwhile_ends_the_processes():
    with pytest.raises(KeyboardInterrupt), forked(2, kill_itself_or_wait) as processes:
        raise KeyboardInterrupt
    assert [one.process.is_alive() for one in processes] == [False, False]


def test_processes_are_forked_beside_threads():
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    try:
        assert several.values_of(2, lambda index: index) == [0, 1]
    finally:
        ended.set()
        thread.join()


def test_other_systems_are_named(monkeypatch):
    assert reason_against_forking() is None
    monkeypatch.setattr(sys, "platform", "darwin")
    assert reason_against_forking() == "a process that uses torch can't be forked on darwin"
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("multiprocessing.get_all_start_methods", lambda: ["spawn"])
    assert "can't be forked on linux" in reason_against_forking()
    monkeypatch.undo()
    monkeypatch.setattr("torch.distributed.is_available", lambda: False)
    assert reason_against_forking() == "this build of torch lacks torch.distributed with gloo"
