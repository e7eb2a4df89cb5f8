"""Which samples the mini-batches of an epoch hold, as a function of the seed, the phase and the epoch."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from torchbase.data.permutation import ComputedPermutation
from torchbase.errors import DataError
from torchbase.randomness import Randomness

ROWS_PERMUTED_AS_A_WHOLE = 2**20
ROWS_AT_A_TIME = 4096


@dataclass(frozen=True)
class MiniBatchIndices:
    """What is to be read for one mini-batch.

    Attributes:
        rows: The positions of its samples in the dataset.
        epoch: The epoch; the first is 1.
        position: The mini-batch within the epoch, from 0.
    """

    rows: list[int]
    epoch: int
    position: int


@dataclass(frozen=True)
class EpochOrder:
    """The order of the samples in each epoch of a phase.

    Where several processes train together, each takes its share of the same mini-batches, so that what is learnt
    doesn't depend on how many there are.

    Attributes:
        number_of_rows: How many samples the dataset has.
        mini_batch_size: How many of them a mini-batch holds, over all processes; the last of an epoch holds the rest.
        shuffle: Whether each epoch has an order of its own.
        phase: The name of the phase.
        randomness: The seed of the run.
        process: Which of the processes this is, from 0.
        processes: How many processes share each mini-batch.
    """

    number_of_rows: int
    mini_batch_size: int
    shuffle: bool
    phase: str
    randomness: Randomness
    process: int = 0
    processes: int = 1

    def __post_init__(self) -> None:
        """Checks that every process gets a sample of a full mini-batch.

        Raises:
            DataError: If there are more processes than samples in a mini-batch.
        """
        if not 0 <= self.process < self.processes <= self.mini_batch_size:
            raise DataError(
                f"A mini-batch of {self.mini_batch_size} can't be shared by {self.processes} processes, of which this "
                f"is number {self.process}. To fix, use at most as many processes as a mini-batch has samples."
            )

    def __len__(self) -> int:
        """The number of mini-batches in an epoch."""
        return -(-self.number_of_rows // self.mini_batch_size)

    def mini_batches(self, epoch: int, start: int = 0) -> Iterator[MiniBatchIndices]:
        """Gives the mini-batches of an epoch, or this process's share of them.

        Args:
            epoch: The epoch; the first is 1.
            start: How many mini-batches to pass over. It takes no time.

        Yields:
            What is to be read for each mini-batch.
        """
        size, part = self.mini_batch_size, self._part_of_epoch(epoch)
        at_a_time = max(1, ROWS_AT_A_TIME // size)
        for first in range(start, len(self), at_a_time):
            last = min(first + at_a_time, len(self))
            rows = part(first * size, min(last * size, self.number_of_rows))
            for position in range(first, last):
                whole = rows[(position - first) * size : (position - first + 1) * size]
                yield MiniBatchIndices(self._share(whole), epoch, position)

    def reading_seed(self, indices: MiniBatchIndices) -> int:
        """Gives what the random streams are seeded with while a mini-batch is read."""
        return self.randomness.derive("reading", self.phase, indices.epoch, indices.position, self.process)

    def _share(self, rows: list[int]) -> list[int]:
        if self.processes == 1:
            return rows
        return rows[len(rows) * self.process // self.processes : len(rows) * (self.process + 1) // self.processes]

    def _part_of_epoch(self, epoch: int) -> Callable[[int, int], list[int]]:
        if not self.shuffle:
            return lambda begin, end: list(range(begin, end))
        seed = self.randomness.derive("order", self.phase, epoch)
        if self.number_of_rows > ROWS_PERMUTED_AS_A_WHOLE:
            return ComputedPermutation(self.number_of_rows, seed).part
        whole = torch.randperm(self.number_of_rows, generator=torch.Generator().manual_seed(seed))
        return lambda begin, end: whole[begin:end].tolist()
