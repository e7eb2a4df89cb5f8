"""The order of the samples of an epoch, as a function of the seed, the phase and the epoch."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from torchbase.data.permutation import ComputedPermutation
from torchbase.randomness import Randomness

ROWS_PERMUTED_AS_A_WHOLE = 2**20
ROWS_AT_A_TIME = 4096


@dataclass(frozen=True)
class MiniBatchIndices:
    """The samples of a mini-batch.

    Attributes:
        rows: The positions of the samples in the dataset.
        epoch: The epoch; the first is 1.
        position: The position of the mini-batch in the epoch; the first is 0.
    """

    rows: list[int]
    epoch: int
    position: int


@dataclass(frozen=True)
class EpochOrder:
    """The order of the samples in each epoch of a phase.

    Attributes:
        number_of_rows: The number of samples in the dataset.
        mini_batch_size: The number of samples in a mini-batch. The last mini-batch of an epoch can be smaller.
        shuffle: Whether to shuffle the samples in each epoch.
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

    @property
    def has_shorter_last(self) -> bool:
        """Whether the last of several mini-batches of an epoch has fewer samples than the others."""
        return len(self) > 1 and self.number_of_rows % self.mini_batch_size > 0

    def mini_batches(self, epoch: int, start: int = 0) -> Iterator[MiniBatchIndices]:
        """Yields the samples of the mini-batches of an epoch.

        Args:
            epoch: The epoch; the first is 1.
            start: The number of mini-batches to skip, at no cost.

        Yields:
            The samples of each mini-batch.
        """
        size, part = self.mini_batch_size, self._part_of_epoch(epoch)
        at_a_time = max(1, ROWS_AT_A_TIME // size)
        for first in range(start, len(self), at_a_time):
            last = min(first + at_a_time, len(self))
            rows = part(first * size, min(last * size, self.number_of_rows))
            for position in range(first, last):
                whole = rows[(position - first) * size : (position - first + 1) * size]
                yield MiniBatchIndices(whole, epoch, position)

    def reading_seed(self, indices: MiniBatchIndices, part: int = 0) -> int:
        """Returns the seed of the random streams while a mini-batch, or a part of it, is read."""
        return self.randomness.derive("reading", self.phase, indices.epoch, indices.position, part)

    def _part_of_epoch(self, epoch: int) -> Callable[[int, int], list[int]]:
        if not self.shuffle:
            return lambda begin, end: list(range(begin, end))
        seed = self.randomness.derive("order", self.phase, epoch)
        if self.number_of_rows > ROWS_PERMUTED_AS_A_WHOLE:
            return ComputedPermutation(self.number_of_rows, seed).part
        generator = torch.Generator("cpu").manual_seed(seed)
        whole = torch.randperm(self.number_of_rows, generator=generator, device="cpu")
        return lambda begin, end: whole[begin:end].tolist()
