"""How several processes, and the workers of each, share a stream."""

import logging
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from torchbase.data.parts import WHOLE, PartsToRead
from torchbase.data.stream_position import ShardResult
from torchbase.data.stream_shards import StreamSource
from torchbase.distributed.processes import Processes
from torchbase.errors import ProcessesDifferError

if TYPE_CHECKING:
    from datasets import IterableDataset

logger = logging.getLogger("torchbase")

Value = TypeVar("Value")


def parts_of_stream(
    dataset: "IterableDataset", mini_batch_size: int, phase: str, parts: PartsToRead, processes: Processes
) -> PartsToRead:
    """Decides in how many parts the mini-batches of a stream are read.

    Args:
        dataset: The stream.
        mini_batch_size: The number of examples in a mini-batch.
        phase: The name of the phase.
        parts: In how many parts mini-batches are computed.
        processes: The processes that compute them.

    Returns:
        ``parts``, without those that have no samples. Whole mini-batches if the stream has fewer shards than parts;
        with several processes, this is logged.
    """
    number = min(parts.number, mini_batch_size)  # a part without samples can't read a shard
    shards = dataset.num_shards
    if shards < number and processes.count > 1 and processes.is_main:
        logger.warning(
            "The stream of %s has %d shards, fewer than the %d parts of a mini-batch. So each of the %d processes "
            "reads all of it. The results are the same, but more processes don't read faster. To fix, divide the data "
            "into more files, or pass num_shards to to_iterable_dataset: at least %d, best a multiple of it.",
            phase,
            shards,
            number,
            processes.count,
            number,
        )
    if shards < number or number == 1:
        return WHOLE
    return PartsToRead(number, range(min(parts.own.start, number), min(parts.own.stop, number), parts.own.step))


def count_usable_workers(source: StreamSource, own: range, num_workers: int) -> int:
    """Returns the largest number of workers with which each shard is always read by the same worker, without pauses.

    Args:
        source: The stream.
        own: The parts of this process.
        num_workers: The maximum.

    Returns:
        A divisor of the number of parts times the number of shards of each part. If it is lower than ``num_workers``,
        it is logged.
    """
    shards = [len(source.shards_of(part)) for part in own]
    evenly = len(shards) * math.gcd(*shards)
    workers = max((count for count in range(1, num_workers + 1) if evenly and evenly % count == 0), default=0)
    if workers < num_workers:
        logger.info(
            "%s uses %d of %d workers: its stream has %d shards%s, and each worker reads the same number of shards.",
            source.phase,
            workers,
            num_workers,
            sum(shards),
            f" for {len(shards)} parts of the mini-batches" if source.parts > 1 else "",
        )
    return workers


def gather_sizes(processes: Processes, own: Mapping[int, ShardResult | None], has_begun: bool, phase: str) -> list[int]:
    """Returns the sizes of all parts of the next mini-batch, on each process.

    Args:
        processes: The processes. Each reads parts of its own.
        own: What was read, by the numbers of the parts of this process; None if the part has ended.
        has_begun: Whether a part of this process has had samples in this pass.
        phase: The name of the phase.

    Returns:
        By part, the number of samples; 0 if it has ended. An empty list if no part has had samples in this pass.
    """
    sizes = {part: 0 if result is None else result.examples for part, result in own.items()}
    gathered = processes.gather((sizes, has_begun), f"the next mini-batch of {phase}")
    if not any(of_process for _, of_process in gathered):
        return []
    return in_order_of_parts([of_process for of_process, _ in gathered])


def in_order_of_parts(gathered: Sequence[Mapping[int, Value]]) -> list[Value]:
    """Returns the values of the parts of all processes, in the order of the parts.

    Args:
        gathered: By process, the values of its parts by the numbers of the parts.
    """
    every = {part: value for of_process in gathered for part, value in of_process.items()}
    return [every[part] for part in sorted(every)]


def check_first_mini_batch(processes: Processes, checksum: int | None, phase: str) -> None:
    """Checks that each process opens the same stream, by the first mini-batch of the first pass.

    Without a seed, ``shuffle`` orders the files and the samples differently on each process. Some shards would then be
    read twice, and others never.

    Args:
        processes: The processes.
        checksum: The checksum of the mini-batch on this process.
        phase: The name of the phase.

    Raises:
        ProcessesDifferError: The mini-batches differ.
    """
    checksums = processes.gather(checksum, f"the comparison of the stream of {phase}")
    different = [index for index, other in enumerate(checksums) if other != checksums[0]]
    if different:
        raise ProcessesDifferError(
            f"The stream of {phase} begins with other samples on process {different[0]} than on process 0. To fix, "
            "pass a seed to shuffle, open the same files on each process, and let a map draw from the global random "
            "generators only."
        )


def checksum_of(value: Any) -> int:
    """Returns a checksum of the tensors, arrays, numbers and strings in any nesting. Other objects don't count."""
    match value:
        case torch.Tensor():
            return zlib.crc32(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        case np.ndarray() if value.dtype != object:
            return zlib.crc32(value.tobytes())
        case Mapping():
            return zlib.crc32(repr([(name, checksum_of(item)) for name, item in value.items()]).encode())
        case list() | tuple() | np.ndarray():
            return zlib.crc32(repr([checksum_of(item) for item in value]).encode())
        case str() | bytes() | int() | float() | None:
            return zlib.crc32(repr(value).encode())
    return 0
