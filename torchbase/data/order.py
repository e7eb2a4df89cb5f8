"""Which samples the mini-batches of an epoch hold, as a function of the seed, the phase and the epoch."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from torchbase.randomness import Randomness


@dataclass(frozen=True)
class MiniBatchIndices:
    """What is to be read for one mini-batch.

    Attributes:
        rows: The positions of its samples in the dataset.
        seed: What the random streams are seeded with while it is read.
    """

    rows: list[int]
    seed: int


@dataclass(frozen=True)
class EpochOrder:
    """The order of the samples in each epoch of a phase.

    Attributes:
        number_of_rows: How many samples the dataset has.
        mini_batch_size: How many of them a mini-batch holds; the last one of an epoch holds the rest.
        shuffle: Whether each epoch has an order of its own.
        phase: The name of the phase.
        randomness: The seed of the run.
    """

    number_of_rows: int
    mini_batch_size: int
    shuffle: bool
    phase: str
    randomness: Randomness

    def __len__(self) -> int:
        """The number of mini-batches in an epoch."""
        return -(-self.number_of_rows // self.mini_batch_size)

    def mini_batches(self, epoch: int, start: int = 0) -> Iterator[MiniBatchIndices]:
        """Gives the mini-batches of an epoch.

        Args:
            epoch: The epoch; the first is 1.
            start: How many mini-batches to pass over.

        Yields:
            What is to be read for each mini-batch.
        """
        rows = self._rows(epoch)
        for position in range(start, len(self)):
            begin = position * self.mini_batch_size
            seed = self.randomness.derive("reading", self.phase, epoch, position)
            yield MiniBatchIndices(rows[begin : begin + self.mini_batch_size].tolist(), seed)

    def _rows(self, epoch: int) -> torch.Tensor:
        if not self.shuffle:
            return torch.arange(self.number_of_rows)
        generator = torch.Generator().manual_seed(self.randomness.derive("order", self.phase, epoch))
        return torch.randperm(self.number_of_rows, generator=generator)
