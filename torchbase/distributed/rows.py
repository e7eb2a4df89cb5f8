"""Rows of tensors that processes exchange, over connections or in memory that they share."""

import platform
from collections.abc import Iterator
from typing import Protocol

import torch
import torch.distributed as dist

from torchbase.distributed.board import Board
from torchbase.distributed.messages import as_bytes
from torchbase.distributed.swap import swap

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

    Between writing and reading, all processes exchange an empty message on the board. A process writes to two areas in
    turn, for the same reason as on the board. What is larger than an area is exchanged in pieces.
    """

    def __init__(self, board: Board) -> None:
        """Finds the areas.

        Args:
            board: The board, with areas.
        """
        self._board, self._areas = board, board.areas()
        self._index, self._count = board.index, board.count
        self._round = 0

    def exchange(self, rows: torch.Tensor) -> torch.Tensor:
        """Exchanges rows; see `Rows`."""
        received = torch.empty_like(rows)
        source, target = _bytes_of(rows), _bytes_of(received)
        for begin, end in self._pieces(source.shape[1], self._areas.shape[2] // self._count):
            areas = self._next_areas()[:, : self._count * (end - begin)].view(self._count, self._count, -1)
            areas[self._index].copy_(source[:, begin:end])
            self._board.exchange(b"")
            target[:, begin:end].copy_(areas[:, self._index])
        return received

    def gather(self, row: torch.Tensor) -> torch.Tensor:
        """Gathers rows; see `Rows`."""
        received = torch.empty(self._count, len(row), dtype=row.dtype, device="cpu")
        source, target = as_bytes(row), _bytes_of(received)
        for begin, end in self._pieces(len(source), self._areas.shape[2]):
            areas = self._next_areas()[:, : end - begin]
            areas[self._index].copy_(source[begin:end])
            self._board.exchange(b"")
            target[:, begin:end].copy_(areas)
        return received

    def _next_areas(self) -> torch.Tensor:
        self._round += 1
        return self._areas[self._round % 2]

    @staticmethod
    def _pieces(length: int, most: int) -> Iterator[tuple[int, int]]:
        return ((begin, min(begin + most, length)) for begin in range(0, length, most))


def _bytes_of(rows: torch.Tensor) -> torch.Tensor:
    return as_bytes(rows).view(len(rows), -1)
