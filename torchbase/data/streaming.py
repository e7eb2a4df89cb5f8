"""The loader of a stream, a ``datasets.IterableDataset``."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from torchbase.data.reading import Collate, data_loader, prepare_worker
from torchbase.data.stream_position import ShardRequest, ShardRequests, ShardResult, StreamPosition
from torchbase.data.stream_shards import StreamShards, StreamSource
from torchbase.errors import DataError
from torchbase.randomness import Randomness

if TYPE_CHECKING:
    from datasets import IterableDataset

logger = logging.getLogger("torchbase")


class StreamLoader:
    """A loader of the mini-batches of a stream.

    The shards are read separately. They yield mini-batches in turn, until all shards have ended; this is one pass. The
    random numbers for a mini-batch depend only on the seed, the phase, the pass, the shard and the number of the
    mini-batch in the shard. So the mini-batches are the same for any number of workers, and reading can resume at any
    mini-batch. The loader has no length, since the number of mini-batches is unknown until the stream has been read.
    """

    def __init__(
        self,
        dataset: "IterableDataset",
        mini_batch_size: int,
        phase: str,
        randomness: Randomness,
        *,
        iterations_per_epoch: int | None = None,
        collate: Collate | None = None,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        """Prepares the reading. Nothing is read yet.

        Args:
            dataset: The stream. If it has no format, numbers are read as tensors.
            mini_batch_size: The number of examples in a mini-batch. The last mini-batch of a shard can be smaller.
            phase: The name of the phase.
            randomness: The seed of the run.
            iterations_per_epoch: The number of mini-batches in an epoch. The next epoch continues at the position in
                the stream, and a stream that ends starts again. With None, an epoch is one pass.
            collate: Collates a list of examples into a mini-batch. None stacks the columns.
            num_workers: The maximum number of worker processes. The largest number that divides the number of shards is
                used; 0 reads in the main process.
            pin_memory: Whether to copy tensors to pinned memory, for fast copies to a GPU.
        """
        self._source = StreamSource(dataset, mini_batch_size, phase, randomness, collate)
        self._iterations_per_epoch = iterations_per_epoch
        self._shards = self._source.shards
        self._position = self._initial_position()
        self._rest_of_pass: Iterator[Any] | None = None
        workers = _count_usable_workers(self._shards, num_workers, phase)
        self._requests = ShardRequests(self._position, workers)
        self._new_loader = partial(
            data_loader,
            StreamShards(self._source),
            self._requests,
            num_workers=workers,
            pin_memory=pin_memory,
            prepare_worker=_prepare_worker,
        )
        self._loader = self._new_loader()

    def __iter__(self) -> Iterator[Any]:
        """The mini-batches of the first epoch."""
        return self.mini_batches(epoch=1)

    def end_workers(self) -> None:
        """Stops the workers. They restart at the position in the stream with the next mini-batch."""
        self._rest_of_pass, self._loader = None, self._new_loader()

    def first_mini_batch(self) -> Any:
        """Returns the first mini-batch of the first pass, read in the current process. The position doesn't change.

        Raises:
            DataError: The stream is empty.
        """
        shards = StreamShards(self._source)
        for shard in range(self._shards):
            result = shards[ShardRequest(pass_number=1, shard=shard, number=0, state=None)]
            if result is not None and result.mini_batch is not None:
                return result.mini_batch
        raise _empty_stream_error(self._source.phase)

    def mini_batches(self, epoch: int, start: int = 0) -> Iterator[Any]:
        """Yields the mini-batches of an epoch.

        Args:
            epoch: The epoch; the first is 1.
            start: The number of mini-batches to skip. They are read again, unless the loader is already at this
                position or can resume from a loaded state.

        Yields:
            Dictionaries of columns, or the return values of the collate function.

        Raises:
            DataError: The stream is empty, or the loaded state belongs to another stream.
        """
        self._seek(epoch, start)
        while self._iterations_per_epoch is None or self._position.mini_batches < self._iterations_per_epoch:
            mini_batch = self._next()
            if mini_batch is None:
                return
            yield mini_batch

    def state_dict(self) -> dict[str, Any]:
        """Returns the position in the stream as plain values. Mini-batches that workers prefetched don't count."""
        return asdict(self._position)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the position in the stream.

        The next iteration starts at this position if it is an iteration over the same epoch.

        Args:
            state: The return value of `state_dict`.
        """
        self._position = StreamPosition(**deepcopy(dict(state)))
        self._rest_of_pass = None

    def _seek(self, epoch: int, start: int) -> None:
        position, iterations = self._position, self._iterations_per_epoch
        if iterations is not None and (epoch, start) == (position.epoch + 1, 0):
            position.epoch, position.mini_batches = epoch, 0
        if (position.epoch, position.mini_batches) == (epoch, start):
            self._check_position()
            return
        self._position, self._rest_of_pass = self._initial_position(), None
        skipped = start if iterations is None else (epoch - 1) * iterations + start
        if iterations is None:
            self._position.begin_pass(epoch)
        if skipped:
            self._log_reading_again(skipped)
        for _ in range(skipped):
            self._next()
        self._position.epoch, self._position.mini_batches = epoch, start

    def _next(self) -> Any:
        """Returns the next mini-batch; None at the end of a pass that is also the end of an epoch."""
        if self._rest_of_pass is None:
            self._requests.position = self._position
            self._rest_of_pass = _iterate_pass(self._loader, self._position, self._source.phase)
        mini_batch = next(self._rest_of_pass, None)
        if mini_batch is None:
            self._rest_of_pass = None
            if self._iterations_per_epoch is not None:
                self._position.begin_pass(self._position.pass_number + 1)
                return self._next()
        return mini_batch

    def _initial_position(self) -> StreamPosition:
        shards = self._shards
        return StreamPosition(self._source.mini_batch_size, [0] * shards, [False] * shards, [None] * shards)

    def _check_position(self) -> None:
        position = self._position
        saved, found = (len(position.given), position.mini_batch_size), (self._shards, self._source.mini_batch_size)
        if saved != found:
            raise DataError(
                f"The stream of {self._source.phase} can't resume from the checkpoint. The checkpoint has {saved[0]} "
                f"shards and mini-batches of {saved[1]}, but the stream has {found[0]} shards and mini-batches of "
                f"{found[1]}. To fix, resume with the original files and config."
            )
        shards = zip(position.given, position.has_ended, position.states, strict=True)
        skipped = sum(returned for returned, has_ended, state in shards if state is None and not has_ended)
        if self._rest_of_pass is None and skipped:
            self._log_reading_again(skipped)

    def _log_reading_again(self, mini_batches: int) -> None:
        logger.info(
            "The stream of %s has no state to resume from exactly (for example, it has a shuffle buffer), so %s "
            "mini-batches are read again and skipped.",
            self._source.phase,
            f"{mini_batches:,}",
        )


# Not a method: a reference cycle would keep the queues of the workers alive until garbage collection, possibly in a
# worker.
def _iterate_pass(loader: Iterable[ShardResult | None], position: StreamPosition, phase: str) -> Iterator[Any]:
    for result in loader:
        if result is not None:
            # Before the yield: a checkpoint is written while this generator is suspended.
            position.advance(result)
            if result.mini_batch is not None:
                yield result.mini_batch
    if not any(position.given):
        raise _empty_stream_error(phase)


def _empty_stream_error(phase: str) -> DataError:
    return DataError(f"The stream of {phase} is empty. To fix, check how init_datasets opens, filters or splits it.")


def _count_usable_workers(shards: int, num_workers: int, phase: str) -> int:
    workers = max((count for count in range(1, num_workers + 1) if shards % count == 0), default=0)
    if workers < num_workers:
        logger.info(
            "%s uses %d of %d workers: its stream has %d shards, and each worker reads the same number of shards.",
            phase,
            workers,
            num_workers,
            shards,
        )
    return workers


def _prepare_worker(worker: int) -> None:
    prepare_worker(worker)
    # The thread that reads remote files doesn't survive a fork, and waiting for it would block forever.
    from fsspec.asyn import reset_lock  # type: ignore[import-untyped]

    reset_lock()
