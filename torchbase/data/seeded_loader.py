"""Loaders that the package did not make: seeded around everything that they may draw."""

from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any

import torch
from torch.utils.data import DataLoader

from torchbase.randomness.run_randomness import Randomness
from torchbase.randomness.streams import is_accelerator, isolate_rng, seed_streams


class SeededLoader:
    """Iterates any loader so that what it draws depends on the seed, the phase, the epoch and the position alone.

    The global random streams are seeded before ``iter(loader)`` and before each mini-batch, also before those that a
    resumed run skips, and restored after. So a shuffled ``torch.utils.data.DataLoader`` has the same order in two runs
    of one seed, and in a resumed run. A random generator that the loader holds itself is out of reach;
    `reason_against_exactness` finds it in torch's loaders.
    """

    def __init__(
        self, loader: Iterable[Any], phase: str, randomness: Randomness, device: torch.device | None = None
    ) -> None:
        """Wraps a loader.

        Args:
            loader: What is iterated anew in each epoch.
            phase: The name of the phase.
            randomness: The seed of the run.
            device: The device of the run, whose stream is seeded, too.
        """
        self._loader, self._phase = loader, phase
        self._randomness, self._device = randomness, device

    @property
    def is_iterator(self) -> bool:
        """Whether the loader can be iterated only once, so that nothing may be read for a trial."""
        return isinstance(self._loader, Iterator)

    def __len__(self) -> int:
        """The number of mini-batches in an epoch; TypeError where the loader doesn't know it."""
        return len(self._loader)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        """The mini-batches of the first epoch."""
        return self.mini_batches(epoch=1)

    def mini_batches(self, epoch: int, start: int = 0) -> Iterator[Any]:
        """Returns the mini-batches of an epoch.

        Args:
            epoch: The epoch; the first is 1.
            start: How many mini-batches to skip. They are read all the same: the loader can't begin in the middle.

        Returns:
            An iterator over what the loader returns.
        """
        with self._randomness.seeded("reading", self._phase, epoch, "begin", device=self._device):
            iterator = iter(self._loader)
        seeds = self._randomness.series("reading", self._phase, epoch)
        # Reading the type of a device takes as long as seeding torch, so it isn't read for each mini-batch.
        device = self._device if is_accelerator(self._device) else None
        for position in count():
            with isolate_rng(device):
                seed_streams(seeds.at(position), device)
                try:
                    mini_batch = next(iterator)
                except StopIteration:
                    return
            if position >= start:
                yield mini_batch


def reason_against_exactness(loader: object) -> str | None:
    """Finds what makes a loader of torch depend on more than the global random streams.

    Args:
        loader: A loader.

    Returns:
        What it is; None if nothing was found, or the loader isn't torch's.
    """
    if not isinstance(loader, DataLoader):
        return None
    sampler = loader.sampler if loader.batch_sampler is None else getattr(loader.batch_sampler, "sampler", None)
    for owner, part in (("DataLoader", loader), (type(sampler).__name__, sampler)):
        if getattr(part, "generator", None) is not None:
            return f"its {owner} has a generator of its own, whose state is not saved"
    if loader.persistent_workers:
        return "its workers keep their random states from one epoch to the next (persistent_workers=True)"
    return None
