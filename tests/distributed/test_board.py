"""Processes of one machine exchange messages on a board. They are forked, and join as those of torchrun do."""

import errno
import gc
import os
import signal
from datetime import timedelta
from mmap import mmap
from os import readlink
from pathlib import Path

import pytest
import several

from torchbase.distributed import board
from torchbase.distributed.board import CAPACITY, open_board
from torchbase.distributed.joining import join

pytestmark = pytest.mark.skipif(not board.SHARES_MEMORY, reason="memory can't be shared")
LENGTHS = [0, 1, 150, CAPACITY - 1, CAPACITY, CAPACITY + 1, 3 * CAPACITY + 5]


def opened():
    processes = join()
    return open_board(processes.index, processes.count, timedelta(seconds=60), processes.gather)


def message(index, number):
    return bytes([index + 1, number]) * LENGTHS[number * (index + 1) % len(LENGTHS)]


def exchanged(index):
    own = opened()
    return [own.exchange(message(index, number)) for number in range(40)]


@pytest.mark.parametrize("count", [2, 3])
def test_messages_of_any_length_are_those_of_the_same_round(count):
    for messages in several.values_of(count, exchanged):
        assert messages == [[message(index, number) for index in range(count)] for number in range(40)]


def is_killed(own, folder):
    os.kill(os.getpid(), signal.SIGKILL)


def is_killed_before_its_worker(own, folder):
    if (worker := os.fork()) == 0:  # such a process has the file of the board, too
        signal.pause()
    (folder / "worker").write_text(str(worker))
    os.kill(os.getpid(), signal.SIGKILL)


def leaves(own, folder):
    own.leave()
    join().gather("until the other has its error")


def waits_for_process_1(index, end, folder):
    own = opened()
    assert own.exchange(b"first") == [b"first"] * 2
    if index == 1:
        return end(own, folder)
    with pytest.raises(RuntimeError, match="process 1 has ended or left"):
        own.exchange(b"second")
    if end is leaves:
        join().gather("until the other has its error")
    for worker in folder.iterdir():
        os.kill(int(worker.read_text()), signal.SIGKILL)
    return "has noticed"


@pytest.mark.parametrize("end", [is_killed, is_killed_before_its_worker, leaves])
def test_the_end_of_a_process_is_an_error_on_the_others(end, tmp_path):
    first, _ = several.run(2, waits_for_process_1, end, tmp_path, seconds=60)
    assert (first.error, first.value) == (None, "has noticed")


def opened_within(index, seconds):
    processes = join()
    return open_board(processes.index, processes.count, timedelta(seconds=seconds), processes.gather)


def does_not_answer(index):
    own = opened_within(index, 0.1)
    if index == 0:
        with pytest.raises(RuntimeError, match=r"process 1 timed out after 0\.1 seconds"):
            own.exchange(b"")
    join().gather("process 0 has its error")


def test_a_process_waits_within_the_time_limit():
    several.values_of(2, does_not_answer)


def ends_while_another_computes(index):
    own = opened()
    if index == 0:
        with pytest.raises(RuntimeError, match="process 2 has ended or left"):
            own.exchange(b"")
    if index == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    if index == 1:
        signal.pause()  # until the test ends it


def test_the_end_of_a_process_is_noticed_while_another_one_computes():
    def kill_the_second(processes):
        processes[0].join()
        processes[1].kill()

    first, *_ = several.run(3, ends_while_another_computes, killed=kill_the_second, seconds=60)
    assert (first.error, first.exit_code) == (None, 0)


def interrupt(*_):
    raise InterruptedError


def is_interrupted(index):
    own = opened()
    if index == 1:
        signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(InterruptedError):
            own.exchange(b"first")
        for _ in range(2):
            with pytest.raises(RuntimeError, match="this process has left the others"):
                own.exchange(b"second")
        join().gather("process 1 has left")
    else:
        join().gather("process 1 has left")
        assert own.exchange(b"first") == [b"first"] * 2  # it was there before
        with pytest.raises(RuntimeError, match="process 1 has ended or left"):
            own.exchange(b"second")


def test_an_exception_within_an_exchange_leaves_the_others():
    several.values_of(2, is_interrupted)


def files_of_boards():
    links = [one for one in Path("/proc/self/fd").iterdir() if one.is_symlink()]
    return [link for link in links if "torchbase-board" in readlink(link)]


def changes_a_byte(index):
    own = opened_within(index, 0.1)
    if index == 1:
        with pytest.raises(RuntimeError, match="process 0 timed out"):
            own.exchange(b"a message")
    join().gather("the message is on the board")
    if index == 0:
        for path in files_of_boards():
            with open(path, "r+b", buffering=0) as file, mmap(file.fileno(), 0) as memory:
                if (place := memory.find(b"a message")) >= 0:
                    memory[place] += 1  # as if this processor didn't see the byte yet
        with pytest.raises(RuntimeError, match="process 1 has ended or left"):
            own.exchange(b"")


def test_what_is_not_yet_whole_is_not_read():
    several.values_of(2, changes_a_byte)


def descriptors(index):
    join()
    before = len(files_of_boards())
    boards = [opened() for _ in range(3)]
    opened_now = len(files_of_boards()) - before
    boards[0].leave()
    boards[0].leave()
    del boards[1:]
    gc.collect()
    return opened_now, len(files_of_boards()) - before - 1  # the memory of the first has a descriptor, too


def test_what_is_left_or_no_longer_needed_is_closed():
    assert several.values_of(2, descriptors) == [(6, 0)] * 2


def raise_error(*arguments):
    raise OSError(errno.ENOSPC, "no space")


def without_board(index, where, name, function, failing):
    processes = join()
    before = len(files_of_boards())
    if index == failing:
        setattr(where, name, function)  # of this process alone
    own = opened()
    gc.collect()
    return processes.gather(own), len(files_of_boards()) - before


@pytest.mark.parametrize(
    ("where", "name", "function", "failing"),
    [
        (board.fcntl, "lockf", raise_error, 0),
        (board.fcntl, "lockf", raise_error, 1),
        (board, "mmap", raise_error, 1),
        (os, "memfd_create", raise_error, 0),
        (os, "posix_fallocate", raise_error, 0),
        (os, "readlink", lambda path: "/dev/null", 1),  # as on another machine
        (os, "pread", lambda *arguments: b"", 1),
    ],
)
def test_no_process_has_a_board_that_one_can_not_have(where, name, function, failing):
    assert several.values_of(2, without_board, where, name, function, failing) == [([None, None], 0)] * 2
