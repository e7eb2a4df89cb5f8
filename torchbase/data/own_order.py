"""The order of a user: a function that returns the rows, or the mini-batches of rows, of an epoch."""

import logging
import zlib
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from torchbase.data.order import MiniBatchIndices, ReadingSeeds
from torchbase.data.order_rows import check_rows
from torchbase.errors import DataError
from torchbase.randomness.run_randomness import Randomness
from torchbase.randomness.streams import isolate_rng, seed_host_streams

logger = logging.getLogger("torchbase")

OrderFunction = Callable[[int, torch.Generator], Any]


class OwnOrder:
    """The order of the samples in each epoch of a phase, computed by a function of the user.

    The function is called once per epoch, in the main process. What it draws depends only on the seed, the phase and
    the epoch, so an epoch can start at any mini-batch. The rows of one epoch are in memory, with 8 bytes each.
    """

    def __init__(
        self,
        function: OrderFunction,
        number_of_rows: int,
        mini_batch_size: int,
        phase: str,
        randomness: Randomness,
        *,
        drop_last: bool = False,
    ) -> None:
        """Prepares the order. The function isn't called yet.

        Args:
            function: Takes the epoch, from 1, and a generator that is seeded for it. Returns the rows in their order,
                shape (rows,); or the rows of each mini-batch.
            number_of_rows: The number of samples in the dataset.
            mini_batch_size: The number of samples in a mini-batch, if the function returns rows.
            phase: The name of the phase.
            randomness: The seed of the run.
            drop_last: Whether to leave out a last mini-batch with fewer samples, if the function returns rows.

        Raises:
            DataError: The function is made for a dataset of another length.
        """
        expected = getattr(function, "number_of_rows", number_of_rows)
        if expected != number_of_rows:
            raise DataError(
                f"The order of {phase}, {_name_of(function)}, is made for {expected} rows, but the dataset has "
                f"{number_of_rows}. To fix, make it of a column of the dataset that init_datasets returns."
            )
        self._function, self._number_of_rows = function, number_of_rows
        self._size, self._drop_last = mini_batch_size, drop_last
        self._phase, self._randomness = phase, randomness
        self._drawn: _EpochRows | None = None
        self._is_compared = False

    @property
    def reading_seeds(self) -> ReadingSeeds:
        """The seeds while mini-batches are read."""
        return ReadingSeeds(self._phase, self._randomness)

    def count_mini_batches(self, epoch: int) -> int:
        """Returns the number of mini-batches in an epoch.

        Args:
            epoch: The epoch; the first is 1.
        """
        return len(self._of(epoch).sizes)

    def shortest(self) -> int | None:
        """Returns the position of the shortest mini-batch of the first epoch; None if the first one is."""
        sizes = self._of(1).sizes
        position = int(sizes.argmin())
        return position if sizes[position] < sizes[0] else None

    def checksum(self, epoch: int) -> int:
        """Returns the checksum of the rows and mini-batches of an epoch.

        Args:
            epoch: The epoch; the first is 1.
        """
        return self._of(epoch).checksum

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
        drawn = self._of(epoch)
        for position in range(start, len(drawn.sizes)):
            size = int(drawn.sizes[position])
            begin, own = int(drawn.ends[position]) - size, needed(size)
            rows = drawn.rows[begin + own.start : begin + own.stop].tolist()
            yield MiniBatchIndices(rows, epoch, position, size, own.start)

    def _of(self, epoch: int) -> "_EpochRows":
        if self._drawn is None or self._drawn.epoch != epoch:
            drawn = self._draw(epoch)
            if not self._is_compared:
                self._compare(drawn, self._draw(epoch))
                self._is_compared = True
                if self._drop_last and not drawn.is_cut_here:
                    self._warn_of_drop_last()
            self._drawn = drawn
        return self._drawn

    def _draw(self, epoch: int) -> "_EpochRows":
        where = f"The order of {self._phase} in epoch {epoch}, of {_name_of(self._function)},"
        seed = self._randomness.derive("order", self._phase, epoch)
        # Also what it draws from the global streams depends on the seed and the epoch only.
        with isolate_rng(), torch.device("cpu"):
            seed_host_streams(seed)
            try:
                returned = self._function(epoch, torch.Generator("cpu").manual_seed(seed))
            except Exception as error:
                error.add_note(f"in the order of {self._phase} in epoch {epoch}, called with the epoch and a generator")
                raise
        rows, sizes = check_rows(returned, self._number_of_rows, where)
        if sizes is not None:
            return _EpochRows(epoch, rows, sizes, is_cut_here=False)
        whole, remainder = divmod(len(rows), self._size)
        if self._drop_last and not whole:
            raise DataError(
                f"{where} has {len(rows)} rows, fewer than a mini-batch of {self._size}, and session.drop_last leaves "
                "them out. To fix, return more rows, or lower session.mini_batch_size."
            )
        rest = [remainder] if remainder and not self._drop_last else []
        sizes = np.array([self._size] * whole + rest, dtype=np.int64)
        return _EpochRows(epoch, rows, sizes, is_cut_here=True)

    def _warn_of_drop_last(self) -> None:
        logger.warning(
            "session.drop_last has no effect, since the order of %s, %s, returns mini-batches, which are read as they "
            "are. To fix, remove the key, and leave short mini-batches out of the order.",
            self._phase,
            _name_of(self._function),
        )

    def _compare(self, first: "_EpochRows", second: "_EpochRows") -> None:
        if first.checksum == second.checksum:
            return
        shorter = min(len(first.rows), len(second.rows))
        different = np.flatnonzero(first.rows[:shorter] != second.rows[:shorter])
        where = f"from position {int(different[0]) if len(different) else shorter} on"
        raise DataError(
            f"The order of {self._phase}, of {_name_of(self._function)}, isn't a function of the epoch: drawn twice "
            f"for epoch {first.epoch} with the same seeds, its rows differ {where}. So a resumed run would read other "
            "mini-batches. To fix, draw from the generator that is passed to it, and from no generator, clock or "
            "counter of its own."
        )


class _EpochRows:
    def __init__(self, epoch: int, rows: NDArray[np.int64], sizes: NDArray[np.int64], *, is_cut_here: bool) -> None:
        self.epoch, self.rows, self.sizes, self.is_cut_here = epoch, rows, sizes, is_cut_here
        self.ends = sizes.cumsum()

    @cached_property
    def checksum(self) -> int:
        return zlib.crc32(self.sizes.tobytes(), zlib.crc32(np.ascontiguousarray(self.rows).data))


def _name_of(function: OrderFunction) -> str:
    return getattr(function, "__qualname__", type(function).__qualname__)
