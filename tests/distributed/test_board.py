"""Processes of one machine exchange messages on a board. They are forked, and join as those of torchrun do."""

import errno
import os
import signal
from datetime import timedelta
from mmap import mmap

import pytest
import several

from torchbase.distributed import board
from torchbase.distributed.board import CAPACITY, Board, BoardFile, make_file, open_board
from torchbase.distributed.joining import join

pytestmark = pytest.mark.skipif(not board.SHARED_MEMORY.is_dir(), reason="no shared memory with a path")
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


@pytest.fixture
def file():
    made = make_file(2)
    yield made
    os.unlink(made.path)


def opened_within(file, index, seconds):
    own = Board(file, index, 2, timedelta(seconds=seconds))
    join().gather("each has opened it")
    return own


def does_not_answer(index, file):
    own = opened_within(file, index, 0.1)
    if index == 0:
        with pytest.raises(RuntimeError, match=r"process 1 timed out after 0\.1 seconds"):
            own.exchange(b"")
    join().gather("process 0 has its error")


def test_a_process_waits_within_the_time_limit(file):
    several.values_of(2, does_not_answer, file)


def changes_a_byte(index, file):
    own = opened_within(file, index, 0.1)
    if index == 1:
        with pytest.raises(RuntimeError, match="process 0 "):
            own.exchange(b"a message")
    join().gather("the message is on the board")
    if index == 0:
        with open(file.path, "r+b") as file_of_board, mmap(file_of_board.fileno(), 0) as memory:
            memory[memory.find(b"a message")] += 1  # as if this processor didn't see the byte yet
        with pytest.raises(RuntimeError, match="process 1 timed out"):
            own.exchange(b"")
    join().gather("process 0 has its error")


def test_what_is_not_yet_whole_is_not_read(file):
    several.values_of(2, changes_a_byte, file)


def test_another_file_is_refused(file):
    with pytest.raises(ValueError, match="isn't the file of this board"):
        Board(BoardFile(file.path, b"another"), 0, 2, timedelta(seconds=1))
    with pytest.raises(FileNotFoundError):
        Board(BoardFile(f"{file.path}-elsewhere", file.token), 0, 2, timedelta(seconds=1))


def raise_error(*arguments):
    raise OSError(errno.ENOSPC, "no space")


def without_board(index, where, name, failing):
    if index == failing:
        setattr(where, name, raise_error)  # of this process alone
    own = join().gather(opened())
    return own, [path.name for path in board.SHARED_MEMORY.glob(f"{board.PREFIX}{os.getpid()}-*")]


@pytest.mark.parametrize(
    ("where", "name", "failing"),
    [(board.fcntl, "lockf", 0), (board.fcntl, "lockf", 1), (board, "mmap", 1), (os, "posix_fallocate", 0)],
)
def test_no_process_has_a_board_that_one_can_not_have(where, name, failing):
    assert several.values_of(2, without_board, where, name, failing) == [([None, None], [])] * 2


def names_of_files(index):
    assert opened() is not None
    return [path.name for path in board.SHARED_MEMORY.glob(f"{board.PREFIX}{os.getpid()}-*")]


def test_no_file_stays():
    assert several.values_of(2, names_of_files) == [[], []]
