"""Mini-batches for a trial before training."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from torchbase.data.loader import MiniBatchLoader
from torchbase.data.seeded_loader import SeededLoader
from torchbase.data.streaming import StreamLoader
from torchbase.engine.phase import SeekableLoader


def first_mini_batch(loader: Iterable[Any]) -> Iterator[Any]:
    """Yields the first mini-batch of the first epoch.

    Args:
        loader: The loader of a phase.

    Yields:
        The mini-batch; nothing if the loader is an iterator, which would lose it, or is empty.
    """
    if isinstance(loader, MiniBatchLoader | StreamLoader):  # without starting its workers
        yield loader.first_mini_batch()
    elif isinstance(loader, SeededLoader) and loader.is_iterator:
        return
    elif isinstance(loader, SeekableLoader):
        yield from islice(loader.mini_batches(1, 0), 1)
    elif iter(loader) is not loader:
        yield from islice(loader, 1)


def mini_batches_to_try(loader: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    """Yields the mini-batches of the first epoch that are worth a trial.

    Args:
        loader: The loader of a phase.

    Yields:
        The position in the epoch and the mini-batch, of the first one and, if one is known to be shorter, the
        shortest one.
    """
    for batch in first_mini_batch(loader):
        yield 0, batch
    shortest = loader.shortest_mini_batch() if isinstance(loader, MiniBatchLoader) else None
    if shortest is not None:
        yield shortest
