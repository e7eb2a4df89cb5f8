"""A ``torch.utils.data.IterableDataset`` with the methods of a `datasets.IterableDataset` that a stream needs."""

import copy
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from torchbase.errors import DataError

logger = logging.getLogger("torchbase")


class TorchStream:
    """A stream over an iterable dataset of torch.

    The dataset is one shard, unless it has the attribute ``num_shards`` and the method ``shard(num_shards=…,
    index=…)``, which returns a part of it as a dataset of its own. It resumes from its state if it has ``state_dict``
    and ``load_state_dict``; otherwise it is read again. ``set_epoch`` is called with the number of each pass, from 1.
    """

    def __init__(self, dataset: Any, phase: str) -> None:
        """Inspects the dataset.

        Args:
            dataset: The dataset.
            phase: The name of the phase.

        Raises:
            DataError: It can be iterated only once, or has no number of shards.
        """
        self._dataset, self._phase = dataset, phase
        self.is_sharded = hasattr(dataset, "num_shards") and callable(getattr(dataset, "shard", None))
        self.num_shards = _count_shards(dataset, phase) if self.is_sharded else 1
        self.has_state = all(callable(getattr(dataset, name, None)) for name in ("state_dict", "load_state_dict"))
        # Each opening begins with it, since what reads a dataset moves the position that its state holds.
        self._initial = copy.deepcopy(dataset.state_dict()) if self.has_state else None

    def check_begins_anew(self) -> None:
        """Checks that the dataset can be iterated several times.

        Raises:
            DataError: It can be iterated only once.
        """
        if iter(self.shard(1, 0)) is iter(self.shard(1, 0)):
            raise DataError(
                f"The stream of {self._phase}, a {type(self._dataset).__name__}, can be iterated only once: iter() "
                "returns the same iterator each time. A session reads its beginning for a trial, and all in each pass. "
                "To fix, let __iter__ begin anew: as a generator, with yield."
            )

    def log_limits(self) -> None:
        """Logs what the stream lacks to be read in parallel, and to resume without reading again."""
        if not self.is_sharded:
            logger.info(
                "The stream of %s, a %s, is one shard, so one worker reads it. To read it in parallel, give it the "
                "attribute num_shards and the method shard(num_shards, index).",
                self._phase,
                type(self._dataset).__name__,
            )
        if not self.has_state:
            logger.info(
                "The stream of %s, a %s, has no state_dict and load_state_dict, so a resumed run reads it again up to "
                "its position.",
                self._phase,
                type(self._dataset).__name__,
            )

    def __iter__(self) -> Iterator[Any]:
        """The examples, from the start or from the loaded state."""
        return iter(self._dataset)

    def iter(self, batch_size: int = 1) -> Iterator[Any]:
        """Returns the examples one by one, as `__iter__`. The argument is that of `datasets`."""
        return iter(self._dataset)

    def shard(self, num_shards: int, index: int) -> "TorchStream":
        """Opens a shard at its start.

        Args:
            num_shards: The number of shards that the dataset is divided into.
            index: The index of the shard, from 0.
        """
        dataset = copy.copy(self._dataset)
        if self.has_state:
            dataset.load_state_dict(copy.deepcopy(self._initial))
        if num_shards > 1:
            dataset = dataset.shard(num_shards=num_shards, index=index)
        return TorchStream(dataset, self._phase)

    def set_epoch(self, epoch: int) -> None:
        """Passes the number of the pass to the dataset, if it has ``set_epoch``."""
        if callable(getattr(self._dataset, "set_epoch", None)):
            self._dataset.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any] | None:
        """Returns a copy of the state of the dataset; None if it has none."""
        return {"dataset": copy.deepcopy(self._dataset.state_dict())} if self.has_state else None

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Loads a state of the dataset, from which the next iteration continues.

        Args:
            state: The return value of `state_dict`.
        """
        self._dataset.load_state_dict(copy.deepcopy(state["dataset"]))


def _count_shards(dataset: Any, phase: str) -> int:
    count = dataset.num_shards
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise DataError(
            f"The stream of {phase}, a {type(dataset).__name__}, has num_shards {count!r}, not an integer of at least "
            "1. To fix, set it to the number of parts that shard(num_shards, index) can divide it into."
        )
    return count
