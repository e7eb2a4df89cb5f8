"""Many sessions in one process leave nothing: no file, thread, process, object or memory."""

import gc
import logging
import multiprocessing
import os
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from tiny import StopAt, TinySession, config_with

from torchbase import hooks as techniques

SECONDS = 120
MEGABYTES = 100  # of 80 sessions, whose networks and data have some kilobytes


class Failing(TinySession):
    """Fails in its third iteration."""

    def loss_function(self, *, output, target):
        if self._run.progress.iterations == 2:
            raise RuntimeError("for the test")
        return super().loss_function(output=output, target=target)


def use_one(parent, number):
    """Uses a session in one of the ways in which sessions are used, and lets it go."""
    way = number % 5
    settings = {"num_epochs": 1, "seed": number, "dataloader_num_workers": 2 if number % 20 == 0 else 0}
    if way == 0:
        session = TinySession(config_with(**settings), parent)
        session()
        session.load_best_network()
        session.evaluate(session.dataset_train)
        list(session.predict(session.dataset_train))
    elif way == 1:
        hooks = (techniques.GradientAccumulation(2), techniques.ExponentialMovingAverage(0.9), techniques.JsonLines())
        session = TinySession(config_with(**settings, mini_batch_size=6, mini_batch_parts=2), parent)
        for hook in (*hooks, techniques.CsvLog(), techniques.RetryOnOutOfMemory(), techniques.HookTimes()):
            session.register(hook)
        session()
    elif way == 2:
        with pytest.raises(RuntimeError, match="for the test"):
            Failing(config_with(**settings), parent)()
    elif way == 3:
        session = TinySession.begin_or_resume(config_with(**settings), parent, tag=f"run-{number}")
        session.register(StopAt(2))
        session()
        TinySession.resume(parent, f"run-{number}")()
    else:
        with TinySession(config_with(**settings), parent) as session:
            assert session.network is not None


def counted():
    """Returns the numbers of what may not grow, exactly."""
    folder = Path("/proc/self")
    on_linux = {"files": folder / "fd", "threads of the system": folder / "task"} if folder.exists() else {}
    return {
        "threads": threading.active_count(),
        "processes": len(multiprocessing.active_children()),
        **{name: len(os.listdir(path)) for name, path in on_linux.items()},
        **Counter(kind.__qualname__ for kind in map(type, gc.get_objects()) if is_of_torchbase(kind)),
    }


def is_of_torchbase(kind):
    return str(kind.__module__).startswith("torchbase")


def megabytes():
    memory = Path("/proc/self/statm")
    return int(memory.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20 if memory.exists() else 0


def settled(expected):
    """Returns what there is more of than expected, also after some time."""
    end = time.monotonic() + SECONDS
    while True:
        gc.collect()
        more = {name: number for name, number in counted().items() if number > expected.get(name, 0)}
        if not more or time.monotonic() > end:
            return more
        time.sleep(0.1)


@pytest.mark.thorough
def test_a_hundred_sessions_in_one_process_leave_no_file_thread_process_object_or_memory(tmp_path, caplog):
    caplog.set_level(logging.CRITICAL, "torchbase")  # pytest stores records
    for number in range(20):  # what is made once: caches, imports
        use_one(tmp_path, number)
    gc.collect()
    before, objects, memory = counted(), len(gc.get_objects()), megabytes()
    for number in range(20, 100):
        use_one(tmp_path, number)
    assert settled(before) == {}
    assert len(gc.get_objects()) < objects + 80  # less than one for each session
    assert megabytes() < memory + MEGABYTES
