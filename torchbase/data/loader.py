"""The loader of a dataset. Its epochs can start at any mini-batch."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from torch.utils.data import Dataset as IndexedDataset
from torch.utils.data import Sampler

from torchbase.data.device_copies import Mover, prefetch
from torchbase.data.faults import describe_labels
from torchbase.data.order import MiniBatchIndices, Order, ReadingSeeds
from torchbase.data.parts import WHOLE, MiniBatchPart, PartsToRead, SplitMiniBatch
from torchbase.data.reading import Collate, data_loader
from torchbase.data.sources import source_of
from torchbase.randomness.streams import isolate_rng, seed_host_streams


class MiniBatchLoader:
    """A loader of the mini-batches of a dataset. It uses ``torch.utils.data.DataLoader`` for workers and pinned memory.

    The order of an epoch depends only on the seed, the phase and the epoch. The random numbers that a transform or a
    collate function draws for a mini-batch also depend on the position of the mini-batch, and on nothing else. So the
    mini-batches are the same for any number of workers, and an epoch can start at any mini-batch.
    """

    def __init__(
        self,
        dataset: Any,
        order: Order,
        *,
        parts: PartsToRead = WHOLE,
        collate: Collate | None = None,
        num_workers: int = 0,
        pin_memory: bool = False,
        mover: Mover | None = None,
    ) -> None:
        """Prepares the reading. Nothing is read yet.

        Args:
            dataset: A `datasets.Dataset`, or an object with ``__len__`` and ``__getitem__``. If a `datasets.Dataset`
                has no format, numeric columns are read as tensors.
            order: The samples of each mini-batch.
            parts: In how many parts each mini-batch is read. Only those of this process are read.
            collate: Collates a list of samples into a mini-batch. None reads whole columns, which is faster.
            num_workers: The number of worker processes; 0 reads in the main process.
            pin_memory: Whether to copy tensors to pinned memory, for fast copies to a GPU.
            mover: Moves each mini-batch to the device while the previous mini-batch is in use. None keeps mini-batches
                on the host.
        """
        self._order, self._mover = order, mover
        self._sampler = _EpochSampler(order, parts)
        self._dataset = _MiniBatches(dataset, order.reading_seeds, parts, collate)
        self._new_loader = partial(
            data_loader, self._dataset, self._sampler, num_workers=num_workers, pin_memory=pin_memory
        )
        self._loader = self._new_loader()

    def __len__(self) -> int:
        """The number of mini-batches in the epoch that was begun last, or in the first one."""
        return len(self._sampler)

    def __iter__(self) -> Iterator[Any]:
        """The mini-batches of the first epoch."""
        return self.mini_batches(epoch=1)

    def count_mini_batches(self, epoch: int) -> int:
        """Returns the number of mini-batches in an epoch. It can differ between epochs if the order is the user's.

        Args:
            epoch: The epoch; the first is 1.
        """
        return self._order.count_mini_batches(epoch)

    def end_workers(self) -> None:
        """Stops the workers. They restart with the next epoch."""
        self._loader = self._new_loader()

    def first_mini_batch(self) -> Any:
        """Returns the first mini-batch of the first epoch, or its first part, read in the current process."""
        return self._dataset.read_first_part(next(self._order.mini_batches(1)))

    def shortest_mini_batch(self) -> tuple[int, Any] | None:
        """Reads the shortest mini-batch of the first epoch in the current process.

        Returns:
            Its position in the epoch, and the mini-batch or its last part; None if no mini-batch is shorter than the
            first.
        """
        position = self._order.shortest()
        if position is None:
            return None
        return position, self._dataset.read_last_part(next(self._order.mini_batches(1, position)))

    def rows_of(self, epoch: int, position: int) -> list[int]:
        """Returns the positions in the dataset of the samples of a mini-batch. Nothing is read.

        Args:
            epoch: The epoch; the first is 1.
            position: The position of the mini-batch in the epoch; the first is 0.
        """
        return next(self._order.mini_batches(epoch, position)).rows

    def read(self, epoch: int, position: int) -> tuple[list[int], Any]:
        """Reads a single mini-batch in the current process. It equals the mini-batch of an iteration over the epoch.

        If mini-batches are read in parts, it has the parts of all processes.

        Args:
            epoch: The epoch; the first is 1.
            position: The position of the mini-batch in the epoch; the first is 0.

        Returns:
            The positions of the samples in the dataset, and the mini-batch.
        """
        indices = next(self._order.mini_batches(epoch, position))
        return indices.rows, self._dataset.read_parts(indices, range(self._dataset.number_of_parts))

    def describe_none(self, rows: list[int]) -> list[str]:
        """Describes columns that contain None.

        Args:
            rows: Positions in the dataset.

        Returns:
            A text for each column with None in these rows.
        """
        return self._dataset.describe_none(rows)

    def find_faults(self, epoch: int, position: int, message: str) -> list[str]:
        """Finds what in the rows of a mini-batch can have caused an error. It reads the mini-batch again.

        Args:
            epoch: The epoch of the mini-batch; the first is 1.
            position: The position of the mini-batch in the epoch; the first is 0.
            message: The message of the error.

        Returns:
            A text for each fault.
        """
        indices = next(self._order.mini_batches(epoch, position))
        try:
            return self._dataset.find_faults(indices, message)
        except Exception as error:  # it must not hide the first error
            return [f"its mini-batch, the rows {indices.rows}, can't be read again: {error}"]

    def mini_batches(self, epoch: int, start: int = 0) -> Iterator[Any]:
        """Returns an iterator over the mini-batches of an epoch.

        Args:
            epoch: The epoch; the first is 1.
            start: The number of mini-batches to skip. They are not read.

        Returns:
            An iterator over dictionaries of columns, the structure of a sample, or the return values of the collate
            function. If mini-batches are read in parts, an iterator over `SplitMiniBatch`.
        """
        self._sampler.seek(epoch, start)
        batches = iter(self._loader)
        return batches if self._mover is None else prefetch(batches, self._mover)


class _EpochSampler(Sampler[MiniBatchIndices]):
    def __init__(self, order: Order, parts: PartsToRead) -> None:
        self._order, self._parts = order, parts
        self.epoch, self._start = 1, 0

    def seek(self, epoch: int, start: int) -> None:
        self.epoch, self._start = epoch, start

    def __iter__(self) -> Iterator[MiniBatchIndices]:
        return self._order.mini_batches(self.epoch, self._start, self._parts.samples_of)

    def __len__(self) -> int:
        return self._order.count_mini_batches(self.epoch)


class _MiniBatches(IndexedDataset[Any]):
    """A dataset of whole mini-batches. Reading in the main process doesn't change the global random streams."""

    def __init__(self, dataset: Any, seeds: ReadingSeeds, parts: PartsToRead, collate: Collate | None) -> None:
        self._parts = parts
        self.number_of_parts = parts.number
        self._name = f"the data of {seeds.phase}"
        self._source = source_of(dataset, self._name, collate)
        self._seeds = seeds
        self._has_collate = collate is not None

    def __getitem__(self, indices: MiniBatchIndices) -> Any:
        return self.read_parts(indices, self._parts.own)

    def read_parts(self, indices: MiniBatchIndices, parts: range) -> Any:
        try:
            if self._parts.number == 1:
                return self._read_part(indices, 0, indices.rows)
            with_samples = range(parts.start, min(parts.stop, indices.size), parts.step)
            return SplitMiniBatch(
                tuple(MiniBatchPart(part, self._read_part_of(indices, part)) for part in with_samples),
                samples=None if self._has_collate else indices.size,
                with_samples=range(min(self._parts.number, indices.size)),
            )
        except Exception as error:
            error.add_note(
                f"while reading mini-batch {indices.position + 1} of epoch {indices.epoch} of {self._seeds.phase}: "
                f"samples {indices.rows}"
            )
            for fault in self._source.find_faults(indices.rows, str(error), in_reading=True):
                error.add_note(fault)
            raise

    def _read_part(self, indices: MiniBatchIndices, part: int, rows: list[int]) -> Any:
        if not self._source.may_draw:
            return self._source.read(rows)
        with isolate_rng():
            seed_host_streams(self._seeds.of(indices, part))
            return self._source.read(rows)

    def read_first_part(self, indices: MiniBatchIndices) -> Any:
        return self._read_part_of(indices, 0)

    def read_last_part(self, indices: MiniBatchIndices) -> Any:
        return self._read_part_of(indices, min(self._parts.number, indices.size) - 1)

    def _read_part_of(self, indices: MiniBatchIndices, part: int) -> Any:
        one = PartsToRead(self._parts.number, range(part, part + 1))
        return self._read_part(indices, part, indices.rows_of(one.samples_of(indices.size)))

    def describe_none(self, rows: list[int]) -> list[str]:
        return self._source.describe_none(rows)

    def find_faults(self, indices: MiniBatchIndices, message: str) -> list[str]:
        batch = self._read_part(indices, 0, indices.rows)
        faults = self._source.find_faults(indices.rows, message, in_reading=False)
        return faults + describe_labels(batch, indices.rows, self._name, message)
