"""Rows of tensors that processes exchange, over connections or in memory that they share."""

import platform
from collections.abc import Callable, Iterator
from typing import Protocol

import torch
import torch.distributed as dist

from torchbase.distributed.board import Board
from torchbase.distributed.messages import as_bytes
from torchbase.distributed.swap import swap

AREA = 2**21  # the bytes that a process shows at a time, few enough for the caches of a processor
# A processor of another kind may show the numbers of another one after the message that says that they are there.
SHOWS_WRITES_IN_ORDER = platform.machine() in ("x86_64", "AMD64")

# torch 2.13 has renamed it.
all_gather = dist.all_gather_single if hasattr(dist, "all_gather_single") else dist.all_gather_into_tensor


class Rows(Protocol):
    """How processes exchange rows."""

    def exchange(self, rows: torch.Tensor) -> torch.Tensor:
        """Sends a row to each process, and receives one from each.

        Args:
            rows: A contiguous tensor with a row per process, of the same shape and dtype on each process.

        Returns:
            The rows for this process, by the index of their sender.
        """

    def gather(self, row: torch.Tensor) -> torch.Tensor:
        """Returns the rows of all processes, to each of them.

        Args:
            row: A contiguous tensor of one dimension, of the same length and dtype on each process.

        Returns:
            The rows, by index.
        """


class ConnectedRows:
    """Rows that `torch.distributed` sends."""

    def __init__(self, host_group: dist.ProcessGroup | None) -> None:
        """Sets the group.

        Args:
            host_group: The group that sends what is on the CPU; None means the default group.
        """
        self.host_group = host_group
        self._index, self._count = dist.get_rank(), dist.get_world_size()

    def exchange(self, rows: torch.Tensor) -> torch.Tensor:
        """Exchanges rows; see `Rows`."""
        # Each process receives one row of each, so 2(W-1)/W of the data are sent, as in a ring of all-reduce.
        received = torch.empty_like(rows)
        dist.all_to_all_single(received, rows, group=self.group_of(rows))
        return received

    def gather(self, row: torch.Tensor) -> torch.Tensor:
        """Gathers rows; see `Rows`."""
        if self._count == 2 and row.device.type == "cpu":
            (other,) = swap([row], self.host_group)
            return torch.stack([row, other] if self._index == 0 else [other, row])
        received = torch.empty(self._count, len(row), dtype=row.dtype, device=row.device)
        all_gather(received.view(-1), row, group=self.group_of(row))
        return received

    def group_of(self, tensor: torch.Tensor) -> dist.ProcessGroup | None:
        """Returns the group that sends a tensor.

        Args:
            tensor: The tensor.
        """
        return self.host_group if tensor.device.type == "cpu" else None


class SharedRows:
    """Rows on the CPU that the processes of one machine copy from memory that they share.

    Between writing and reading, all processes compare on the board what they exchange. What is larger than an area is
    exchanged in pieces.
    """

    def __init__(self, board: Board, compare: Callable[[Board, str], object]) -> None:
        """Sets the board.

        Args:
            board: A board with areas, for these rows alone.
            compare: Exchanges the purpose of each process on the board, and raises an error if they differ.
        """
        self.board, self._compare = board, compare

    def exchange(self, rows: torch.Tensor) -> torch.Tensor:
        """Exchanges rows; see `Rows`."""
        own, count = self.board.index, self.board.count
        received = torch.empty_like(rows)
        source, target = _bytes_of(rows), _bytes_of(received)
        for begin, end in self._pieces(source.shape[1], self.board.next_areas().shape[1] // count):
            areas = self.board.next_areas()[:, : count * (end - begin)].view(count, count, -1)
            areas[own].copy_(source[:, begin:end])
            self._compare(self.board, f"bytes {begin} to {end} of {source.shape[1]} of a row for each process")
            target[:, begin:end].copy_(areas[:, own])
        return received

    def gather(self, row: torch.Tensor) -> torch.Tensor:
        """Gathers rows; see `Rows`."""
        received = torch.empty(self.board.count, len(row), dtype=row.dtype, device="cpu")
        source, target = as_bytes(row), _bytes_of(received)
        for begin, end in self._pieces(len(source), self.board.next_areas().shape[1]):
            areas = self.board.next_areas()[:, : end - begin]
            areas[self.board.index].copy_(source[begin:end])
            self._compare(self.board, f"bytes {begin} to {end} of {len(source)} of a row for all processes")
            target[:, begin:end].copy_(areas)
        return received

    @staticmethod
    def _pieces(length: int, most: int) -> Iterator[tuple[int, int]]:
        return ((begin, min(begin + most, length)) for begin in range(0, length, most))


def is_of_communication(error: BaseException) -> bool:
    """Whether communication raised an error, not a signal handler meanwhile: torch has one for lost workers.

    Args:
        error: The error.
    """
    if not isinstance(error, RuntimeError | ValueError):
        return False
    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    name = "" if where is None else where.tb_frame.f_globals.get("__name__", "")
    return f"{name}.".startswith("torch.distributed.") or name in (swap.__module__, Board.__module__)


def _bytes_of(rows: torch.Tensor) -> torch.Tensor:
    return as_bytes(rows).view(len(rows), -1)
