"""Memory that the processes of one machine share, in which they exchange messages."""

import os
import secrets
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from datetime import timedelta
from mmap import mmap
from pathlib import Path
from typing import Any, NamedTuple

import torch

if sys.platform != "win32":
    import fcntl

SHARED_MEMORY = Path("/dev/shm")  # a folder in memory, which no other machine can see
PREFIX = "torchbase-"
CAPACITY = 2**16  # the bytes of a message that a process shows at a time
AREA = 2**21  # the bytes of an area for tensors, which stays in the caches of a processor
_HEAD = struct.Struct("<QQII")  # the round, the length of the message, and the length and checksum of the piece
_PLACE = _HEAD.size + CAPACITY
_ALIGNMENT = 2**12
# A process that waits lets others run at first, which takes microseconds. Then it sleeps, ever longer.
_SECONDS_AWAKE = 0.001
_SHORTEST_SLEEP, _LONGEST_SLEEP = 0.00005, 0.001
_SECONDS_BETWEEN_LOOKS = 0.02  # at whether the other process has ended

Gather = Callable[[Any], list[Any]]


class Piece(NamedTuple):
    """A piece of a message.

    Attributes:
        length: The number of bytes of the whole message.
        content: The piece.
    """

    length: int
    content: bytes


class BoardFile(NamedTuple):
    """The file of a board.

    Attributes:
        path: The file.
        token: Its first bytes, by which a process recognizes it.
        area: The bytes of an area for tensors.
    """

    path: str
    token: bytes
    area: int = 0


class Board:
    """Shows messages of each process to all others.

    That takes microseconds. A message over a connection takes up to a millisecond on a busy machine, since threads of
    both processes have to wake up.

    Messages are exchanged in rounds. A process has two places, and writes to them in turn. What it overwrites is two
    rounds old, and all others have read it, since they have written the message of the round between. A reader checks
    the checksum, since a processor may show the bytes that another one writes in any order.

    After the messages are areas for tensors, two for each process.

    Each process locks a byte of the file. The system unlocks it when the process ends, in whatever way.

    Attributes:
        index: The index of this process.
        count: The number of processes.
        area: The bytes of an area.
    """

    def __init__(self, file: BoardFile, index: int, count: int, time_limit: timedelta) -> None:
        """Opens the board. No process may exchange messages before all have opened it.

        Args:
            file: The file that `make_file` has made.
            index: The index of this process.
            count: The number of processes.
            time_limit: How long a process waits for another.

        Raises:
            OSError: If the file can't be opened, as on another machine.
            ValueError: If it is another file.
        """
        self.index, self.count, self.area = index, count, file.area
        self._time_limit, self._round = time_limit.total_seconds(), 0
        self._descriptor = os.open(file.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            if os.pread(self._descriptor, len(file.token), 0) != file.token:
                raise ValueError(f"{file.path} isn't the file of this board")
            self._lock(index)
            self._memory = mmap(self._descriptor, _size_for(count, file.area))
        except BaseException:
            os.close(self._descriptor)
            raise

    def exchange(self, content: bytes) -> list[bytes]:
        """Returns the messages of all processes, to each of them.

        Args:
            content: The message of this process, of any length.

        Returns:
            One message per process, by index.

        Raises:
            RuntimeError: If another process has ended or left, or doesn't answer within the time limit.
        """
        rounds = [self._exchange_pieces(Piece(len(content), content[:CAPACITY]))]
        longest = max(piece.length for piece in rounds[0])
        for begin in range(CAPACITY, longest, CAPACITY):  # each process knows all lengths, so all take part
            rounds.append(self._exchange_pieces(Piece(len(content), content[begin : begin + CAPACITY])))
        return [b"".join(piece.content for piece in pieces) for pieces in zip(*rounds, strict=True)]

    def areas(self) -> torch.Tensor:
        """Returns the areas, bytes of the shape (2, processes, `area`). `exchange` doesn't change them."""
        return torch.frombuffer(self._memory, dtype=torch.uint8, offset=_end_of_messages(self.count)).view(
            2, self.count, self.area
        )

    def leave(self) -> None:
        """Leaves the board, so that those which wait for this process have an error."""
        os.close(self._descriptor)  # which ends the lock; the memory stays as long as tensors are in it

    def _exchange_pieces(self, own: Piece) -> list[Piece]:
        self._round += 1
        place = self._place_of(self.index)
        begin, length = place + _HEAD.size, len(own.content)
        self._memory[begin : begin + length] = own.content
        _HEAD.pack_into(self._memory, place, self._round, own.length, length, self._checksum_of(own))
        return [own if index == self.index else self._wait_for(index) for index in range(self.count)]

    def _wait_for(self, index: int) -> Piece:
        begun = looked = time.monotonic()
        sleep = _SHORTEST_SLEEP
        while (piece := self._read(index)) is None:
            now = time.monotonic()
            if now - begun < _SECONDS_AWAKE:
                os.sched_yield()
                continue
            if now - looked > _SECONDS_BETWEEN_LOOKS:
                looked = now
                if self._has_ended(index) and self._read(index) is None:
                    raise RuntimeError(f"process {index} has ended or left")
            if now - begun > self._time_limit:
                raise RuntimeError(f"process {index} timed out after {self._time_limit:g} seconds")
            time.sleep(sleep)
            sleep = min(2 * sleep, _LONGEST_SLEEP)
        return piece

    def _read(self, index: int) -> Piece | None:
        """Returns the piece of this round; None if not all of it is there yet."""
        place = self._place_of(index)
        number, whole, length, checksum = _HEAD.unpack_from(self._memory, place)
        if number != self._round:
            return None
        begin = place + _HEAD.size
        piece = Piece(whole, self._memory[begin : begin + length])
        return piece if self._checksum_of(piece) == checksum else None

    def _checksum_of(self, piece: Piece) -> int:
        return zlib.crc32(piece.content, (self._round + piece.length) % 2**32)

    def _place_of(self, index: int) -> int:
        return (self._round % 2 * self.count + index + 1) * _PLACE  # the token is before the first one

    def _lock(self, index: int) -> None:
        # A lock of this kind isn't passed on to processes that this one forks, so it ends with this one.
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, index)

    def _has_ended(self, index: int) -> bool:
        try:
            self._lock(index)
        except OSError:  # the process, or one that looks at it, has the lock
            return False
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, index)
        return True


def open_board(index: int, count: int, time_limit: timedelta, gather: Gather, area: int = 0) -> Board | None:
    """Opens a board, if all processes run on one machine and share memory. All of them call this.

    Args:
        index: The index of this process.
        count: The number of processes.
        time_limit: How long a process waits for another at the board.
        gather: Returns the values of all processes, to each of them. It takes the value of this process.
        area: The bytes of an area for tensors, the same on each process.

    Returns:
        The board, or None if some process can't open it.
    """
    made = make_file(count, area) if index == 0 else None
    try:
        file, *_ = gather(made)
        try:
            board = None if file is None else Board(file, index, count, time_limit)
        except (OSError, ValueError):  # another machine, or one without locks
            board = None
        is_open_everywhere = None not in gather(None if board is None else index)
    finally:
        if made is not None:  # its name is no longer needed
            os.unlink(made.path)
    if board is not None and not is_open_everywhere:
        board.leave()
        return None
    return board


def make_file(count: int, area: int = 0) -> BoardFile | None:
    """Makes the file of a board.

    Args:
        count: The number of processes.
        area: The bytes of an area for tensors.

    Returns:
        The file, or None where there is no shared memory, or too little.
    """
    if sys.platform != "linux" or not SHARED_MEMORY.is_dir():
        return None
    token, path = secrets.token_bytes(16), None
    try:
        descriptor, path = tempfile.mkstemp(prefix=f"{PREFIX}{os.getpid()}-", dir=SHARED_MEMORY)
        with open(descriptor, "wb", buffering=0) as file:
            file.write(token)
            # Otherwise the system kills a process that writes where no memory is left.
            os.posix_fallocate(file.fileno(), 0, _size_for(count, area))
    except OSError:
        if path is not None:
            os.unlink(path)
        return None
    return BoardFile(path, token, area)


def is_file_of_board(path: str) -> bool:
    """Whether a file is one by which processes communicate, and that no longer has a name when they have opened it.

    Args:
        path: The absolute path.
    """
    return os.path.dirname(path) == str(SHARED_MEMORY) and os.path.basename(path).startswith(PREFIX)


def _end_of_messages(count: int) -> int:
    return -(-(2 * count + 1) * _PLACE // _ALIGNMENT) * _ALIGNMENT


def _size_for(count: int, area: int) -> int:
    return _end_of_messages(count) + 2 * count * area
