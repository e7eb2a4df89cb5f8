"""Finds samples that differ when they are read twice with the same seeds."""

import logging
from collections.abc import Callable
from typing import Any

from torchbase.data.stream_sharing import checksum_of
from torchbase.randomness import isolate_rng, seed_host_streams

logger = logging.getLogger("torchbase")


def warn_unless_repeatable(read: Callable[[], Any], seed: int, what: str) -> None:
    """Reads a sample twice with the same seeds, and warns if it differs.

    Args:
        read: Reads the sample.
        seed: The seed of the global random streams.
        what: Describes the sample in the warning.
    """
    checksums = []
    for _ in range(2):
        with isolate_rng():
            seed_host_streams(seed)
            checksums.append(checksum_of(read()))
    if checksums[0] != checksums[1]:
        logger.warning(
            "%s differs when it is read twice with the same seeds. So two runs of one seed differ, and so does a "
            "resumed run. To fix, draw from the global random streams of random, numpy and torch, which are seeded for "
            "each mini-batch, not from a generator of its own, a clock or a counter.",
            what,
        )
