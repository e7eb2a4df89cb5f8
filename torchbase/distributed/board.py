"""Memory that the processes of one machine share, in which they exchange messages and tensors."""

import os
import re
import secrets
import struct
import sys
import time
import zlib
from collections.abc import Callable
from datetime import timedelta
from mmap import mmap
from typing import Any, NamedTuple
from weakref import finalize

import torch

if sys.platform != "win32":
    import fcntl

SHARES_MEMORY = sys.platform == "linux"  # elsewhere a file can't be opened by the number that another process has
CAPACITY = 2**16  # the bytes of a message that a process shows at a time
_FIELDS = struct.Struct("<QQI")  # the number of the round, and the lengths of the message and of the piece
_CHECKSUM = struct.Struct("<I")  # of the fields and the piece
_HEAD = _FIELDS.size + _CHECKSUM.size
_PLACE = _HEAD + CAPACITY
_ALIGNMENT = 2**12
_NAME = "torchbase-board"
# A process that waits lets others run at first, which takes microseconds. Then it sleeps for a part of its wait so far.
_SECONDS_AWAKE = 0.001
_PART_ASLEEP, _LONGEST_SLEEP = 0.05, 0.01
_SECONDS_BETWEEN_LOOKS = 0.02  # at whether another process has ended

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
    """The memory of a board, a file without a name.

    Attributes:
        path: Where other processes can open it, as long as this one has it.
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
    the checksum, since a processor may show the bytes that another one writes in any order. After the messages are
    areas for tensors, two for each process, which are written and read in the same turns.

    Each process locks a byte of the file. The system unlocks it when the process ends, in whatever way.

    Attributes:
        index: The index of this process.
        count: The number of processes.
    """

    def __init__(self, file: BoardFile, descriptor: int, index: int, count: int, time_limit: timedelta) -> None:
        """Opens the board. No process may exchange messages before all have opened it.

        Args:
            file: The file that `make_file` has made.
            descriptor: The open file, which is closed when the board is left or no longer needed.
            index: The index of this process.
            count: The number of processes.
            time_limit: How long a process waits for the others.

        Raises:
            OSError: If the file can't be mapped or locked.
            ValueError: If it is another file.
        """
        self.index, self.count = index, count
        self._time_limit, self._round = time_limit.total_seconds(), 0
        self._descriptor, self._close = descriptor, finalize(self, os.close, descriptor)
        if os.pread(descriptor, len(file.token), 0) != file.token:
            raise ValueError(f"{file.path} isn't the file of this board")
        self._lock(index)
        self._memory = mmap(descriptor, _size_for(count, file.area))
        self._areas = torch.frombuffer(self._memory, dtype=torch.uint8)[_end_of_messages(count) :]

    def exchange(self, content: bytes) -> list[bytes]:
        """Returns the messages of all processes, to each of them.

        An exception within it, such as one that a signal handler raises, leaves the board: the others can't know how
        far this process was.

        Args:
            content: The message of this process, of any length.

        Returns:
            One message per process, by index.

        Raises:
            RuntimeError: If this process has left, another one has ended or left, or doesn't answer within the time
                limit.
        """
        if not self._close.alive:
            raise RuntimeError("this process has left the others")
        try:
            rounds = [self._exchange_pieces(Piece(len(content), content[:CAPACITY]))]
            longest = max(piece.length for piece in rounds[0])
            for begin in range(CAPACITY, longest, CAPACITY):  # each process knows all lengths, so all take part
                rounds.append(self._exchange_pieces(Piece(len(content), content[begin : begin + CAPACITY])))
        except BaseException:
            self.leave()
            raise
        return [b"".join(piece.content for piece in pieces) for pieces in zip(*rounds, strict=True)]

    def next_areas(self) -> torch.Tensor:
        """Returns the areas of the next round, bytes of the shape (processes, bytes of an area).

        A process writes to its own before it exchanges a short message, and then reads those of the others before it
        exchanges another one.
        """
        return self._areas.view(2, self.count, -1)[(self._round + 1) % 2]

    def leave(self) -> None:
        """Leaves the board, so that those which wait for this process have an error."""
        self._close()  # which ends the lock

    def _exchange_pieces(self, own: Piece) -> list[Piece]:
        self._round += 1
        place, length = self._place_of(self.index), len(own.content)
        fields = _FIELDS.pack(self._round, own.length, length)
        self._memory[place + _HEAD : place + _HEAD + length] = own.content
        self._memory[place : place + _HEAD] = fields + _CHECKSUM.pack(_checksum(fields, own.content))
        pieces = {self.index: own}
        self._wait_for_others(pieces)
        return [pieces[index] for index in range(self.count)]

    def _wait_for_others(self, pieces: dict[int, Piece]) -> None:
        """Reads the pieces of the others, and adds them."""
        begun = looked = time.monotonic()
        while missing := self._read_missing(pieces):
            now = time.monotonic()
            if (waited := now - begun) < _SECONDS_AWAKE:
                os.sched_yield()
                continue
            if now - looked > _SECONDS_BETWEEN_LOOKS:
                looked = now
                self._check_none_has_ended(missing, pieces)
            if waited > self._time_limit:
                raise RuntimeError(f"process {missing[0]} timed out after {self._time_limit:g} seconds")
            time.sleep(min(_PART_ASLEEP * waited, _LONGEST_SLEEP))

    def _read_missing(self, pieces: dict[int, Piece]) -> list[int]:
        for index in range(self.count):
            if index not in pieces and (piece := self._read(index)) is not None:
                pieces[index] = piece
        return [index for index in range(self.count) if index not in pieces]

    def _check_none_has_ended(self, missing: list[int], pieces: dict[int, Piece]) -> None:
        ended = [index for index in missing if self._has_ended(index)]
        still_missing = self._read_missing(pieces)  # one may have written its last message before it ended
        for index in ended:
            if index in still_missing:
                raise RuntimeError(f"process {index} has ended or left")

    def _read(self, index: int) -> Piece | None:
        """Returns the piece of this round; None if not all of it is there yet."""
        place = self._place_of(index)
        head = self._memory[place : place + _HEAD]
        number, whole, length = _FIELDS.unpack_from(head)
        if number != self._round:
            return None
        content = self._memory[place + _HEAD : place + _HEAD + length]
        (checksum,) = _CHECKSUM.unpack_from(head, _FIELDS.size)
        return Piece(whole, content) if _checksum(head[: _FIELDS.size], content) == checksum else None

    def _place_of(self, index: int) -> int:
        return (self._round % 2 * self.count + index + 1) * _PLACE  # the token is before the first one

    def _lock(self, index: int) -> None:
        # A lock of this kind isn't passed on to processes that this one forks, so it ends with this one.
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, index)

    def _has_ended(self, index: int) -> bool:
        try:
            self._lock(index)
        except (BlockingIOError, PermissionError):  # the process, or one that looks at it, has the lock
            return False
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, index)
        return True


def open_board(index: int, count: int, time_limit: timedelta, gather: Gather, area: int = 0) -> Board | None:
    """Opens a board, if all processes run on one machine and share memory. All of them call this.

    Args:
        index: The index of this process.
        count: The number of processes.
        time_limit: How long a process waits for the others at the board.
        gather: Returns the values of all processes, to each of them. It takes the value of this process.
        area: The bytes of an area for tensors, the same on each process.

    Returns:
        The board, or None if some process can't open it.
    """
    descriptor, made = make_file(count, area) if index == 0 and SHARES_MEMORY else (None, None)
    file, *_ = gather(made)
    board: Board | None = None
    if file is not None:
        try:
            descriptor = _open(file) if descriptor is None else descriptor
            board = Board(file, descriptor, index, count, time_limit)
        except (OSError, ValueError):  # on another machine, or in another container
            board = None
    if None in gather(None if board is None else index):
        if board is not None:
            board.leave()
        return None
    return board


def make_file(count: int, area: int = 0) -> tuple[int | None, BoardFile | None]:
    """Makes the memory of a board.

    Args:
        count: The number of processes.
        area: The bytes of an area for tensors.

    Returns:
        The descriptor and the file; None for both if there is too little memory.
    """
    token = secrets.token_bytes(16)
    try:
        # A file of its own, since /dev/shm is small in containers, and what is there may stay.
        descriptor = os.memfd_create(_NAME)
    except OSError:
        return None, None
    try:
        # Otherwise the system kills a process that writes where no memory is left.
        os.posix_fallocate(descriptor, 0, _size_for(count, area))
        os.pwrite(descriptor, token, 0)
    except OSError:
        os.close(descriptor)
        return None, None
    return descriptor, BoardFile(f"/proc/{os.getpid()}/fd/{descriptor}", token, area)


def is_file_of_board(path: str) -> bool:
    """Whether a path can be that of a `BoardFile`, which isn't on a disk.

    Args:
        path: The absolute path.
    """
    return re.fullmatch(r"/proc/\d+/fd/\d+", path) is not None


def _open(file: BoardFile) -> int:
    if _NAME not in os.readlink(file.path):  # on another machine, it may be anything
        raise ValueError(f"{file.path} isn't the file of a board")
    return os.open(file.path, os.O_RDWR | os.O_CLOEXEC)


def _checksum(fields: bytes, content: bytes) -> int:
    return zlib.crc32(content, zlib.crc32(fields))


def _end_of_messages(count: int) -> int:
    return -(-(2 * count + 1) * _PLACE // _ALIGNMENT) * _ALIGNMENT


def _size_for(count: int, area: int) -> int:
    return _end_of_messages(count) + 2 * count * area
