"""Finds samples that differ when they are read twice with the same seeds, and streams that resume somewhere else."""

import logging
from collections.abc import Callable
from typing import Any

from torchbase.data.stream_sharing import checksum_of
from torchbase.data.torch_stream import TorchStream
from torchbase.randomness.streams import isolate_rng, seed_host_streams

logger = logging.getLogger("torchbase")


def warn_unless_repeatable(read: Callable[[], Any], seed: int, what: str) -> None:
    """Reads a sample twice with the same seeds, and warns if it differs.

    Args:
        read: Reads the sample.
        seed: The seed of the global random streams.
        what: Describes the sample in the warning.
    """
    if _checksum(read, seed) != _checksum(read, seed):
        logger.warning(
            "%s differs when it is read twice with the same seeds. So two runs of one seed differ, and so does a "
            "resumed run. To fix, draw from the global random streams of random, numpy and torch, which are seeded for "
            "each mini-batch, not from a generator of its own, a clock or a counter.",
            what,
        )


def warn_unless_resumable(stream: TorchStream, seed: int, what: str) -> None:
    """Reads two examples of a stream, resumes it after the first, and warns if another one follows.

    Args:
        stream: A stream that has a state.
        seed: The seed of the global random streams, for each example.
        what: Describes the stream in the warning.
    """
    first = stream.shard(1, 0)
    examples = first.iter()
    _checksum(lambda: next(examples, None), seed)
    resumed = stream.shard(1, 0)
    state = first.state_dict()
    if state is None:
        return
    resumed.load_state_dict(state)
    rest = resumed.iter()
    if _checksum(lambda: next(rest, None), seed) != _checksum(lambda: next(examples, None), seed):
        logger.warning(
            "%s doesn't continue with the next example after load_state_dict, so a resumed run would repeat examples "
            "or leave some out. To fix, let state_dict return the position after the example that was yielded last: "
            "advance it before yield, not after.",
            what,
        )


def _checksum(read: Callable[[], Any], seed: int) -> int:
    with isolate_rng():
        seed_host_streams(seed)
        return checksum_of(read())
