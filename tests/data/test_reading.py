import subprocess
import sys
import textwrap

import pytest
import torch

from torchbase.data.reading import data_loader

# A worker that begins only when its parent is dead, as if that had been killed while it started the worker.
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
        print("goes on", flush=True)


    def start_and_be_killed(method):
        multiprocessing.get_context(method).Process(target=work, args=(os.getpid(),)).start()
        time.sleep(1 if method == "spawn" else 0)
        os.kill(os.getpid(), 9)


    if __name__ == "__main__":
        start_and_be_killed(sys.argv[1])
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_worker_does_not_outlive_a_process_that_was_killed_while_it_started_it(tmp_path, method):
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    # Its output ends when the worker has ended, who has it from the killed process.
    done = subprocess.run(
        [sys.executable, str(program), method], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == -9
    assert done.stdout == ""


class Echo(torch.utils.data.Dataset):
    def __getitem__(self, request):
        return request


@pytest.mark.parametrize("num_workers", [0, 1])
def test_requests_are_answered_in_their_order_whenever_the_loader_is_iterated(num_workers):
    requests = ["first", "second", "third"]
    loader = data_loader(Echo(), requests, num_workers=num_workers, pin_memory=False)
    assert [list(loader), list(loader)] == [requests, requests]
    del requests[1:]
    begun = iter(loader)
    assert list(begun) == ["first"]


def test_reading_in_the_main_process_asks_for_one_mini_batch_at_a_time():
    asked = []

    def requests():
        for number in range(3):
            asked.append(number)
            yield number

    mini_batches = iter(data_loader(Echo(), requests(), num_workers=0, pin_memory=False))
    assert asked == []
    assert [next(mini_batches), next(mini_batches)] == [0, 1]
    assert asked == [0, 1]
