"""The order of epochs of a given number of mini-batches, which continue each other's passes over the dataset."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice

from torchbase.data.order import EpochOrder, MiniBatchIndices, ReadingSeeds


class SpanningOrder:
    """The order of the samples in epochs of n mini-batches each.

    The passes over the dataset follow each other, each in an order of its own, and are cut into epochs: an epoch begins
    where the last one ended. Their mini-batches are those of `EpochOrder`, so the last one of a pass can be smaller.
    """

    def __init__(self, passes: EpochOrder, mini_batches_per_epoch: int) -> None:
        """Prepares the order.

        Args:
            passes: The order of each pass.
            mini_batches_per_epoch: The number of mini-batches in an epoch.
        """
        self._passes, self._per_epoch = passes, mini_batches_per_epoch

    @property
    def reading_seeds(self) -> ReadingSeeds:
        """The seeds while mini-batches are read."""
        return self._passes.reading_seeds

    def count_mini_batches(self, epoch: int) -> int:
        """Returns the number of mini-batches in an epoch, the same for each epoch."""
        return self._per_epoch

    def shortest(self) -> int | None:
        """Returns the position of the shortest mini-batch of the first epoch; None if the first one is."""
        position = self._passes.shortest()
        return position if position is not None and position < self._per_epoch else None

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
        position = start
        while position < self._per_epoch:
            number, skipped = self._place_of((epoch - 1) * self._per_epoch + position)
            for indices in islice(self._passes.mini_batches(number, skipped, needed), self._per_epoch - position):
                yield replace(indices, epoch=epoch, position=position)
                position += 1

    def _place_of(self, mini_batch: int) -> tuple[int, int]:
        """Returns the pass of a mini-batch of the run, from 1, and the position of the mini-batch in the pass."""
        passes, position = divmod(mini_batch, len(self._passes))
        return passes + 1, position
