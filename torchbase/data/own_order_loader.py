"""The loader of a dataset in the order of a user."""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from torchbase.data.loader import MiniBatchLoader
from torchbase.data.own_order import OwnOrder

logger = logging.getLogger("torchbase")


class OwnOrderLoader(MiniBatchLoader):
    """A `MiniBatchLoader` whose order is a function of the user.

    Its state has a checksum of the order of the epoch, so a resumed run finds out whether the order is still the same.
    """

    def __init__(self, dataset: Any, order: OwnOrder, **options: Any) -> None:
        """Prepares the reading.

        Args:
            dataset: The dataset.
            order: The order.
            **options: The other arguments of `MiniBatchLoader`.
        """
        super().__init__(dataset, order, **options)
        self._own_order = order
        self._epoch, self._expected = 1, dict[str, int]()
        self._has_begun = False

    def mini_batches(self, epoch: int, start: int = 0) -> Iterator[Any]:
        """Returns an iterator over the mini-batches of an epoch; see `MiniBatchLoader.mini_batches`.

        Args:
            epoch: The epoch; the first is 1.
            start: The number of mini-batches to skip.
        """
        if start > 0 and not self._has_begun:  # a resumed run
            self._check(epoch)
        self._epoch, self._expected, self._has_begun = epoch, {}, True
        return super().mini_batches(epoch, start)

    def state_dict(self) -> dict[str, int]:
        """Returns the epoch and a checksum of its order."""
        return {"epoch": self._epoch, "checksum": self._own_order.checksum(self._epoch)}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Sets the order that is expected if the iteration continues in the middle of the epoch.

        Args:
            state: The return value of `state_dict`.
        """
        self._expected, self._has_begun = dict(state), False

    def _check(self, epoch: int) -> None:
        if self._expected != {"epoch": epoch, "checksum": self._own_order.checksum(epoch)}:
            logger.warning(
                "The order of epoch %d isn't that of the run before it was resumed, so some rows are read twice in "
                "this epoch, and others aren't read. The order depends on more than the epoch and its generator. To "
                "fix, let it depend on nothing that changes during training or between two programs.",
                epoch,
            )
