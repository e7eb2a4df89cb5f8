"""How processes find each other, and what they say if they can't."""

import atexit
import os
import socket
from datetime import timedelta

import pytest
import several
import torch
import torch.distributed as dist

from torchbase.distributed import joining
from torchbase.distributed.joining import has_others, join, local_count, local_index
from torchbase.distributed.processes import SingleProcess
from torchbase.errors import ProcessError, ProcessLostError

LAUNCHED = {
    "RANK": "0",
    "WORLD_SIZE": "2",
    "LOCAL_RANK": "0",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
}


@pytest.fixture
def launched(monkeypatch):
    """Sets what torchrun sets for the first of two processes, except for what is changed."""

    def launch(**changes):
        for name, value in {**LAUNCHED, **changes}.items():
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, value)

    return launch


@pytest.mark.parametrize("count", [None, "", "1"])
def test_a_process_that_is_launched_alone_joins_nobody(launched, count):
    launched(WORLD_SIZE=count)
    assert not has_others()
    assert (local_index(), local_count()) == (None, 1)
    assert isinstance(join(), SingleProcess)


@pytest.mark.parametrize("missing", ["RANK", "MASTER_ADDR", "MASTER_PORT"])
def test_a_variable_that_the_launcher_has_not_set_is_named(launched, missing):
    launched(**{missing: None})
    with pytest.raises(ProcessError, match=rf"WORLD_SIZE is 2, .* but {missing} is not set\. To fix, .* torchrun"):
        join()


def test_all_variables_that_are_missing_are_named(launched):
    launched(RANK=None, MASTER_ADDR="")
    with pytest.raises(ProcessError, match="but RANK and MASTER_ADDR are not set"):
        join()


@pytest.mark.parametrize(("name", "value"), [("RANK", "first"), ("RANK", "-1"), ("WORLD_SIZE", "two")])
def test_a_variable_that_is_no_number_is_named(launched, name, value):
    launched(**{name: value})
    with pytest.raises(ProcessError, match=f"{name} is '{value}', and has to be a whole number"):
        join()


def test_an_index_beyond_the_number_of_processes_is_an_error(launched):
    launched(RANK="2")
    with pytest.raises(ProcessError, match="RANK is 2, and has to be less than WORLD_SIZE, 2"):
        join()


def waits_for_all(index, seconds):
    joining.TIME_LIMIT = timedelta(seconds=seconds)
    if index < 2:
        join()


def test_a_process_that_never_comes_is_an_error_after_the_time_limit():
    first, second, third = several.run(3, waits_for_all, 2)
    assert third.error is None
    for index, one in enumerate((first, second)):
        assert f"ProcessError: Process {index} of 3 can't reach the others at 127.0.0.1:" in one.error
        assert "It waits for 2 seconds. Each of them has to make the session" in one.error


def joins_at(index, port, seconds):
    joining.TIME_LIMIT = timedelta(seconds=seconds)
    del os.environ["TORCHELASTIC_USE_AGENT_STORE"]  # so that process 0 serves the store
    os.environ["MASTER_PORT"] = str(port)
    join()


def test_a_port_that_is_taken_is_an_error_on_each_process():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        for index, one in enumerate(several.run(2, joins_at, port, 2)):
            assert f"ProcessError: Process {index} of 2 can't reach the others at 127.0.0.1:{port}" in one.error
            assert "the port has to be free" in one.error


def joins_within(index, backend, file):
    if file is None:
        dist.init_process_group(backend)
    else:
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
            del os.environ[name]
        dist.init_process_group(backend, init_method=f"file://{file}", rank=index, world_size=2)
    processes = join()
    assert join() is processes
    total = processes.reduce([torch.ones(3)], [torch.ones(3)])[0].tolist()
    told = torch.full((2,), index)
    processes.tell_tensors([told])
    own = (processes.index, processes.count, local_index(), local_count())
    return own, processes.gather(index), total, told.tolist(), dist.is_initialized()


@pytest.mark.parametrize("backend", ["gloo", "cuda:gloo"])  # the second can't send what is on the CPU, as NCCL
@pytest.mark.parametrize("is_launched", [True, False])
def test_a_group_of_the_program_is_joined(tmp_path, backend, is_launched):
    joined = several.values_of(2, joins_within, backend, None if is_launched else tmp_path / "rendezvous")
    assert joined == [((index, 2, index, 2), [0, 1], [2.0, 2.0, 2.0], [0, 0], True) for index in range(2)]


def loses_the_others_within(index):
    dist.init_process_group("gloo")
    processes = join()
    if index == 1:
        return None
    with pytest.raises(ProcessLostError, match="since one of them has ended"):
        processes.gather(0, "the first value")
    with pytest.raises(ProcessLostError, match="has left the others after an earlier error"):
        join().gather(0, "the second value")
    return dist.is_initialized()


def test_the_group_of_the_program_stays_after_an_error():
    assert several.values_of(2, loses_the_others_within) == [True, None]


def leaves(index):
    join()
    dist.destroy_process_group()
    join().tell_tensors([torch.zeros(1)])  # which only torch sends


def test_a_group_that_the_program_has_destroyed_is_an_error():
    for one in several.run(2, leaves):
        assert "ProcessLostError: " in one.error
        assert "group" in one.error


def at_the_end(index):
    registered = []
    atexit.register = registered.append  # in this process alone
    processes = join()
    return [one.__name__ for one in registered], registered[-1] == processes.leave


def test_a_process_that_ends_leaves_the_others_before_all_else_that_it_does():
    assert several.values_of(2, at_the_end) == [(["_leave", "leave"], True)] * 2  # the last one is called first
