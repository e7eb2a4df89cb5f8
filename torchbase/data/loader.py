"""What a phase iterates: mini-batches of a dataset, in an order that can be sought."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from torch.utils.data import Dataset as IndexedDataset
from torch.utils.data import Sampler

from torchbase.data.columns import ColumnReader
from torchbase.data.device_copies import Mover, moved_ahead
from torchbase.data.order import EpochOrder, MiniBatchIndices
from torchbase.data.reading import Collate, collated, data_loader
from torchbase.randomness import fence, seed_host_streams

if TYPE_CHECKING:
    from datasets import Dataset


class MiniBatchLoader:
    """Gives the mini-batches of each epoch, over torch's own ``DataLoader`` where it has workers or pinned memory.

    The order of an epoch, and whatever a transform or a collate function draws while a mini-batch is read, depend on
    nothing but the seed, the phase, the epoch and the position of the mini-batch. So the number of workers changes
    nothing, and an epoch can begin anywhere.
    """

    def __init__(
        self,
        dataset: "Dataset",
        order: EpochOrder,
        *,
        collate: Collate | None = None,
        num_workers: int = 0,
        pin_memory: bool = False,
        mover: Mover | None = None,
    ) -> None:
        """Prepares the reading; nothing is read yet.

        Args:
            dataset: The dataset. Without a format of its own its numeric columns come as tensors.
            order: Which samples each mini-batch holds.
            collate: Makes a mini-batch of a list of samples; without one the columns are read together.
            num_workers: How many processes read ahead; 0 reads where the mini-batch is used.
            pin_memory: Whether to put tensors into pinned memory, for fast copies to a GPU.
            mover: Brings each mini-batch to the device while the one before it is in use; without one they stay on the
                host.
        """
        self._order, self._mover = order, mover
        self._sampler = _EpochSampler(order)
        self._dataset = _MiniBatches(dataset, order, collate)
        self._new_loader = partial(
            data_loader, self._dataset, self._sampler, num_workers=num_workers, pin_memory=pin_memory
        )
        self._loader = self._new_loader()

    def __len__(self) -> int:
        """The number of mini-batches in an epoch."""
        return len(self._order)

    def __iter__(self) -> Iterator[Any]:
        """The mini-batches of the first epoch."""
        return self.mini_batches(epoch=1)

    def end_workers(self) -> None:
        """Ends the workers; they begin anew when the next epoch does."""
        self._loader = self._new_loader()

    def first_mini_batch(self) -> Any:
        """Gives the first mini-batch of the first epoch, read by the caller's own process."""
        return self.read(epoch=1, position=0)[1]

    def read(self, epoch: int, position: int) -> tuple[list[int], Any]:
        """Reads a single mini-batch, as any iteration over its epoch gives it, in the caller's own process.

        Args:
            epoch: The epoch; the first is 1.
            position: The mini-batch within it; the first is 0.

        Returns:
            The rows of its samples in the dataset, and the mini-batch.
        """
        indices = next(self._order.mini_batches(epoch, position))
        return indices.rows, self._dataset[indices]

    def mini_batches(self, epoch: int, start: int = 0) -> Iterator[Any]:
        """Gives the mini-batches of an epoch.

        Args:
            epoch: The epoch; the first is 1.
            start: How many mini-batches to pass over, without reading them.

        Returns:
            An iterator over dictionaries of columns, or over what the collate function returns.
        """
        self._sampler.seek(epoch, start)
        batches = iter(self._loader)
        return batches if self._mover is None else moved_ahead(batches, self._mover)


class _EpochSampler(Sampler[MiniBatchIndices]):
    def __init__(self, order: EpochOrder) -> None:
        self._order = order
        self._epoch, self._start = 1, 0

    def seek(self, epoch: int, start: int) -> None:
        self._epoch, self._start = epoch, start

    def __iter__(self) -> Iterator[MiniBatchIndices]:
        return self._order.mini_batches(self._epoch, self._start)

    def __len__(self) -> int:
        return len(self._order)


class _MiniBatches(IndexedDataset[Any]):
    """Reads a mini-batch where it is made: in a worker, or in the main process behind a fence."""

    def __init__(self, dataset: "Dataset", order: EpochOrder, collate: Collate | None) -> None:
        self._reader = ColumnReader(dataset, f"the data of {order.phase}")
        self._order = order
        self._collate = collate
        lacks_format = collate is not None and dataset.format["type"] is None
        self._samples = dataset.with_format("torch") if lacks_format else dataset
        self._may_draw = collate is not None or self._reader.may_draw
        self._reader.log_slow_columns()

    def __getitem__(self, indices: MiniBatchIndices) -> Mapping[str, Any]:
        try:
            if not self._may_draw:
                return self._read(indices.rows)
            with fence():
                seed_host_streams(self._order.reading_seed(indices))
                return self._read(indices.rows)
        except Exception as error:
            error.add_note(
                f"while reading mini-batch {indices.position + 1} of epoch {indices.epoch} of {self._order.phase}: "
                f"the samples {indices.rows}"
            )
            raise

    def _read(self, rows: list[int]) -> Mapping[str, Any]:
        if self._collate is None:
            return self._reader.read(rows)
        return collated(self._collate, self._samples.__getitems__(rows))
