"""The randomness of a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from torchbase.randomness.seeds import SeedSeries, derive_seed
from torchbase.randomness.streams import isolate_rng, seed_streams


@dataclass(frozen=True)
class Randomness:
    """The seed from which all randomness of a run is derived.

    Attributes:
        seed: An integer of at least 0.
    """

    seed: int

    def derive(self, *purpose: str | int) -> int:
        """Derives the seed of one purpose; see `derive_seed`."""
        return derive_seed(self.seed, *purpose)

    def series(self, *purpose: str | int) -> SeedSeries:
        """Returns the seeds of one purpose by number; see `SeedSeries`."""
        return SeedSeries(self.seed, *purpose)

    @contextmanager
    def seeded(self, *purpose: str | int, device: torch.device | None = None) -> Iterator[None]:
        """Seeds the global streams for one purpose, and restores them afterwards.

        Args:
            *purpose: The purpose, from general to specific.
            device: The device of the run.

        Yields:
            Nothing.
        """
        with isolate_rng(device):
            seed_streams(self.derive(*purpose), device)
            yield
