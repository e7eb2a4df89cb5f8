import multiprocessing
import signal
import subprocess
import textwrap
from typing import get_args

import pytest
import torch

from torchbase.data.reading import IGNORED_BY_WORKERS, data_loader, prepare_worker
from torchbase.run_directory.session_config import SessionConfig

METHODS = multiprocessing.get_all_start_methods()

# The worker starts only after the main process has died, as if that had been killed during the start.
KILLED_DURING_THE_START = """
    import multiprocessing
    import os
    import sys

    from torchbase.data.reading import prepare_worker


    def work(ready):
        ready.send("started")
        multiprocessing.parent_process().join()
        prepare_worker(0)
        print("continues", flush=True)


    if __name__ == "__main__":
        context = multiprocessing.get_context(sys.argv[1])
        ready, ready_in_worker = context.Pipe()
        context.Process(target=work, args=(ready_in_worker,)).start()
        ready.recv()
        os.kill(os.getpid(), 9)
"""

KILLED_BETWEEN_TWO_MINI_BATCHES = """
    import multiprocessing
    import os
    import sys

    import torch

    from torchbase.data.reading import data_loader


    class Echo(torch.utils.data.Dataset):
        def __getitem__(self, request):
            return request


    if __name__ == "__main__":
        multiprocessing.set_start_method(sys.argv[1])
        mini_batches = iter(data_loader(Echo(), range(100), num_workers=2, pin_memory=False))
        next(mini_batches)
        os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("program", [KILLED_DURING_THE_START, KILLED_BETWEEN_TWO_MINI_BATCHES])
@pytest.mark.parametrize("method", METHODS)
def test_workers_exit_if_the_main_process_is_killed(programs, tmp_path, method, program):
    file = tmp_path / "program.py"
    file.write_text(textwrap.dedent(program))
    # The workers inherit the output of the killed process, so the output ends when the last of them exits.
    finished = programs.run(file, method)
    assert finished.returncode == -9, finished.stderr
    assert finished.stdout == ""


def answer(connection):
    prepare_worker(0)
    while True:
        connection.send(connection.recv())


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="the sender of a signal is unknown")
@pytest.mark.parametrize("method", METHODS)
def test_a_worker_obeys_no_signal_but_sigterm_from_the_main_process(method):
    context = multiprocessing.get_context(method)
    connection, connection_of_worker = context.Pipe()
    worker = context.Process(target=answer, args=(connection_of_worker,), daemon=True)
    worker.start()
    connection.send("prepared")
    assert connection.recv() == "prepared"
    for name in ("SIGTERM", *IGNORED_BY_WORKERS):
        subprocess.run(["kill", f"-{name.removeprefix('SIG')}", str(worker.pid)], check=True)
    connection.send("still there")
    assert connection.recv() == "still there"
    worker.terminate()
    worker.join()
    assert worker.exitcode == 0


def test_a_worker_leaves_each_signal_that_a_config_can_name_to_the_main_process():
    kinds = get_args(SessionConfig.model_fields["preemption_signal"].annotation)
    assert {name for kind in kinds for name in get_args(kind)} - {"SIGTERM"} == {*IGNORED_BY_WORKERS} - {"SIGINT"}


class Echo(torch.utils.data.Dataset):
    def __getitem__(self, request):
        return request


@pytest.mark.parametrize("num_workers", [0, 1])
def test_items_are_in_the_order_of_the_requests_in_each_iteration(num_workers):
    requests = ["first", "second", "third"]
    loader = data_loader(Echo(), requests, num_workers=num_workers, pin_memory=False)
    assert [list(loader), list(loader)] == [requests, requests]
    del requests[1:]
    assert list(loader) == ["first"]


@pytest.mark.parametrize("method", METHODS)
def test_workers_are_started_by_any_method(method):
    former = multiprocessing.get_start_method()
    multiprocessing.set_start_method(method, force=True)
    try:
        assert list(data_loader(Echo(), range(3), num_workers=1, pin_memory=False)) == [0, 1, 2]
    finally:
        multiprocessing.set_start_method(former, force=True)


def test_reading_in_the_main_process_requests_one_mini_batch_at_a_time():
    requested = []

    def requests():
        for number in range(3):
            requested.append(number)
            yield number

    mini_batches = iter(data_loader(Echo(), requests(), num_workers=0, pin_memory=False))
    assert requested == []
    assert [next(mini_batches), next(mini_batches)] == [0, 1]
    assert requested == [0, 1]
