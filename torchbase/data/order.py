"""The order of the samples of an epoch, as a function of the seed, the phase and the epoch."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch

from torchbase.data.permutation import ComputedPermutation
from torchbase.randomness.run_randomness import Randomness

ROWS_PERMUTED_AS_A_WHOLE = 2**20
ROWS_AT_A_TIME = 4096


@dataclass(frozen=True)
class MiniBatchIndices:
    """The samples of a mini-batch.

    Attributes:
        rows: The positions of the samples in the dataset; of a large mini-batch, only of those that are needed.
        epoch: The epoch; the first is 1.
        position: The position of the mini-batch in the epoch; the first is 0.
        size: The number of samples of the whole mini-batch.
        first: The position in the mini-batch of the first of the rows.
    """

    rows: list[int]
    epoch: int
    position: int
    size: int
    first: int = 0

    def rows_of(self, samples: range) -> list[int]:
        """Returns the positions in the dataset of some samples of the mini-batch.

        Args:
            samples: Which samples of the mini-batch.
        """
        return self.rows[samples.start - self.first : samples.stop - self.first]


@dataclass(frozen=True)
class ReadingSeeds:
    """The seeds of the random streams while mini-batches are read.

    Attributes:
        phase: The name of the phase.
        randomness: The seed of the run.
    """

    phase: str
    randomness: Randomness

    def of(self, indices: MiniBatchIndices, part: int = 0) -> int:
        """Returns the seed while a mini-batch, or a part of it, is read."""
        return self.randomness.derive("reading", self.phase, indices.epoch, indices.position, part)


class Order(Protocol):
    """Which samples each mini-batch of an epoch has."""

    @property
    def reading_seeds(self) -> ReadingSeeds:
        """The seeds while mini-batches are read."""

    def count_mini_batches(self, epoch: int) -> int:
        """Returns the number of mini-batches in an epoch."""

    def shortest(self) -> int | None:
        """Returns the position of the shortest mini-batch of the first epoch; None if the first one is."""

    def mini_batches(
        self, epoch: int, start: int = 0, needed: Callable[[int], range] = range
    ) -> Iterator[MiniBatchIndices]:
        """Yields the samples of the mini-batches of an epoch, from the position ``start``; see `EpochOrder`."""


@dataclass(frozen=True)
class EpochOrder:
    """The order of the samples in each epoch of a phase.

    Attributes:
        number_of_rows: The number of samples in the dataset.
        mini_batch_size: The number of samples in a mini-batch. The last mini-batch of an epoch can be smaller.
        shuffle: Whether to shuffle the samples in each epoch.
        phase: The name of the phase.
        randomness: The seed of the run.
        drop_last: Whether to leave out a last mini-batch with fewer samples than the others.
    """

    number_of_rows: int
    mini_batch_size: int
    shuffle: bool
    phase: str
    randomness: Randomness
    drop_last: bool = False

    def __len__(self) -> int:
        """The number of mini-batches in an epoch."""
        whole, remainder = divmod(self.number_of_rows, self.mini_batch_size)
        return whole + (remainder > 0 and not self.drop_last)

    @property
    def reading_seeds(self) -> ReadingSeeds:
        """The seeds while mini-batches are read."""
        return ReadingSeeds(self.phase, self.randomness)

    def count_mini_batches(self, epoch: int) -> int:
        """Returns the number of mini-batches in an epoch, the same for each epoch."""
        return len(self)

    def shortest(self) -> int | None:
        """Returns the position of the last mini-batch if it has fewer samples than the others; None otherwise."""
        is_shorter = len(self) > 1 and self.number_of_rows % self.mini_batch_size > 0 and not self.drop_last
        return len(self) - 1 if is_shorter else None

    def mini_batches(
        self, epoch: int, start: int = 0, needed: Callable[[int], range] = range
    ) -> Iterator[MiniBatchIndices]:
        """Yields the samples of the mini-batches of an epoch.

        Args:
            epoch: The epoch; the first is 1.
            start: The number of mini-batches to skip, at no cost.
            needed: Takes the number of samples of a mini-batch, returns which of them are needed; all by default.

        Yields:
            The samples of each mini-batch.
        """
        size, part = self.mini_batch_size, self._part_of_epoch(epoch)
        at_a_time = max(1, ROWS_AT_A_TIME // size)
        number_of_rows = min(self.number_of_rows, len(self) * size)
        for first in range(start, len(self), at_a_time):
            begin, end = first * size, min((first + at_a_time) * size, number_of_rows)
            if at_a_time == 1:  # a mini-batch of thousands of samples, of which one of many processes needs a few
                own = needed(end - begin)
                rows = part(begin + own.start, begin + own.stop)
                yield MiniBatchIndices(rows, epoch, first, end - begin, own.start)
                continue
            rows = part(begin, end)
            for offset in range(0, len(rows), size):
                whole = rows[offset : offset + size]
                yield MiniBatchIndices(whole, epoch, first + offset // size, len(whole))

    def _part_of_epoch(self, epoch: int) -> Callable[[int, int], list[int]]:
        if not self.shuffle:
            return lambda begin, end: list(range(begin, end))
        seed = self.randomness.derive("order", self.phase, epoch)
        if self.number_of_rows > ROWS_PERMUTED_AS_A_WHOLE:
            return ComputedPermutation(self.number_of_rows, seed).part
        generator = torch.Generator("cpu").manual_seed(seed)
        whole = torch.randperm(self.number_of_rows, generator=generator, device="cpu")
        return lambda begin, end: whole[begin:end].tolist()
