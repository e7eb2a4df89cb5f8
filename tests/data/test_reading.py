import subprocess
import sys
import textwrap

import pytest
import torch

from torchbase.data.reading import data_loader

# The worker starts only after its parent has died, as if the parent had been killed during the start.
PROGRAM = """
    import multiprocessing
    import os
    import sys
    import time

    from torchbase.data.reading import prepare_worker


    def work(parent):
        while os.getppid() == parent:
            time.sleep(0.01)
        prepare_worker(0)
        print("continues", flush=True)


    def start_and_be_killed(method):
        multiprocessing.get_context(method).Process(target=work, args=(os.getpid(),)).start()
        time.sleep(1 if method == "spawn" else 0)
        os.kill(os.getpid(), 9)


    if __name__ == "__main__":
        start_and_be_killed(sys.argv[1])
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_worker_exits_if_its_parent_is_killed_during_the_start(tmp_path, method):
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    # The worker inherits the output of the killed process, so the output ends when the worker exits.
    finished = subprocess.run(
        [sys.executable, str(program), method], capture_output=True, text=True, timeout=600, check=False
    )
    assert finished.returncode == -9
    assert finished.stdout == ""


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
