import multiprocessing
import os
import resource
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from torchbase.errors import HookError
from torchbase.techniques import memory_use

SIZE = 2**25


@pytest.fixture(params=["/proc", "ps"])
def source(request, monkeypatch, tmp_path):
    if request.param == "ps":
        monkeypatch.setattr(memory_use, "PROCESSES", tmp_path)


@pytest.mark.usefixtures("source")
def test_the_resident_memory_of_a_process_grows_with_what_it_uses():
    before = memory_use.resident_memory([os.getpid()])
    used = np.ones(SIZE, dtype=np.uint8)
    after = memory_use.resident_memory([os.getpid()])
    assert len(used) == SIZE
    assert SIZE * 0.9 < after - before < SIZE * 1.5
    assert memory_use.peak_of_this_process() >= after * 0.99


@pytest.mark.usefixtures("source")
def test_several_processes_are_added_and_one_that_has_ended_uses_none():
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    alone = memory_use.resident_memory([os.getpid(), ended.pid])
    assert alone > 0
    assert memory_use.resident_memory([os.getpid(), os.getppid()]) > alone * 0.9
    assert memory_use.resident_memory([]) == 0


def test_both_sources_agree(monkeypatch, tmp_path):
    of_proc = memory_use.resident_memory([os.getpid()])
    monkeypatch.setattr(memory_use, "PROCESSES", tmp_path)
    assert memory_use.resident_memory([os.getpid()]) == pytest.approx(of_proc, rel=0.1)


def test_without_either_the_error_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(memory_use, "PROCESSES", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HookError, match=r"there is no /proc, and ps failed with FileNotFoundError.*To fix, remove Mem"):
        memory_use.resident_memory([1])


def test_without_a_count_of_the_peak_the_error_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)
    with pytest.raises(HookError, match="The memory of this process can't be read on this system"):
        memory_use.peak_of_this_process()


def test_macos_counts_the_peak_in_bytes(monkeypatch):
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=2048))
    monkeypatch.setattr(sys, "platform", "darwin")
    assert memory_use.peak_of_this_process() == 2048
    monkeypatch.setattr(sys, "platform", "linux")
    assert memory_use.peak_of_this_process() == 2048 * 1024


def test_workers_are_the_processes_of_multiprocessing():
    event = multiprocessing.get_context("fork").Event()
    worker = multiprocessing.get_context("fork").Process(target=event.wait)
    worker.start()
    try:
        assert worker.pid in memory_use.worker_ids()
    finally:
        event.set()
        worker.join()
    assert worker.pid not in memory_use.worker_ids()


class Cuda:
    def __init__(self):
        self.peak = 300

    def memory_allocated(self, device):
        return 100

    def memory_reserved(self, device):
        return 200

    def max_memory_allocated(self, device):
        return self.peak

    def reset_peak_memory_stats(self, device):
        self.peak = 100


def test_the_memory_of_each_kind_of_device(monkeypatch):
    cuda = Cuda()
    mps = SimpleNamespace(current_allocated_memory=lambda: 1, driver_allocated_memory=lambda: 2)
    monkeypatch.setattr(torch, "get_device_module", lambda device: {"cuda": cuda, "mps": mps}[device.type])
    assert memory_use.device_memory(torch.device("cpu")) == {}
    assert memory_use.device_memory(torch.device("mps")) == {"allocated": 1, "reserved": 2}
    assert memory_use.device_memory(torch.device("cuda")) == {"allocated": 100, "reserved": 200, "peak": 300}
    for device in ("cpu", "mps", "cuda"):
        memory_use.reset_peak(torch.device(device))
    assert cuda.peak == 100
