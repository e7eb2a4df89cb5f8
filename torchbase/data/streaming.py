"""The loader of a stream, a ``datasets.IterableDataset``."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from torchbase.data.parts import WHOLE, MiniBatchPart, PartsToRead, SplitMiniBatch
from torchbase.data.reading import Collate, data_loader, prepare_worker
from torchbase.data.stream_pass import PartOfPass, ShardRequests, StreamPass
from torchbase.data.stream_position import PartPosition, ShardRequest, ShardResult, StreamPosition
from torchbase.data.stream_shards import StreamShards, StreamSource
from torchbase.data.stream_sharing import (
    check_first_mini_batch,
    checksum_of,
    count_usable_workers,
    gather_sizes,
    in_order_of_parts,
    parts_of_stream,
)
from torchbase.distributed.processes import ALONE, Processes
from torchbase.errors import DataError
from torchbase.randomness.run_randomness import Randomness

if TYPE_CHECKING:
    from datasets import IterableDataset

logger = logging.getLogger("torchbase")


class StreamLoader:
    """A loader of the mini-batches of a stream.

    The shards are read separately. They yield mini-batches in turn, until all shards have ended; this is one pass. The
    random numbers for a mini-batch depend only on the seed, the phase, the pass, the shard and the number of the
    mini-batch in the shard. So the mini-batches are the same for any number of workers, and reading can resume at any
    mini-batch. Without ``iterations_per_epoch`` the loader has no length, since the number of mini-batches is unknown
    until the stream has been read.

    If mini-batches are read in parts, the shards are shared out among the parts: of P parts, part p has the shards p,
    p + P, p + 2P and so on, and a mini-batch consists of the next samples of each part. A part whose shards have ended
    has no samples; a pass ends when all parts have ended. Each process reads the shards of its own parts only. A stream
    with fewer shards than parts is read whole, by each process.
    """

    def __init__(
        self,
        dataset: "IterableDataset",
        mini_batch_size: int,
        phase: str,
        randomness: Randomness,
        *,
        parts: PartsToRead = WHOLE,
        processes: Processes = ALONE,
        iterations_per_epoch: int | None = None,
        collate: Collate | None = None,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        """Prepares the reading. Nothing is read yet.

        Args:
            dataset: The stream. If it has no format, numbers are read as tensors.
            mini_batch_size: The number of examples in a mini-batch, over all parts. The last mini-batches of a pass can
                be smaller.
            phase: The name of the phase.
            randomness: The seed of the run.
            parts: In how many parts each mini-batch is read, and which of them are those of this process.
            processes: The processes that read the parts. If there are several, they have to iterate, and to call
                `state_dict`, at the same time.
            iterations_per_epoch: The number of mini-batches in an epoch. The next epoch continues at the position in
                the stream, and a stream that ends starts again. With None, an epoch is one pass.
            collate: Collates a list of examples into a mini-batch. None stacks the columns.
            num_workers: The maximum number of worker processes. The largest number that shares out the shards evenly is
                used; 0 reads in the main process.
            pin_memory: Whether to copy tensors to pinned memory, for fast copies to a GPU.
        """
        parts = parts_of_stream(dataset, mini_batch_size, phase, parts, processes)
        self._source = StreamSource(dataset, mini_batch_size, phase, randomness, collate, parts.number)
        self._own, self._processes = parts.own, processes
        self._is_compared = processes.count == 1
        self._checksum: int | None = None  # of the first mini-batch
        self._iterations_per_epoch = iterations_per_epoch
        self._position = self._initial_position()
        self._rest_of_pass: StreamPass | None = None
        workers = count_usable_workers(self._source, self._own, num_workers)
        self._requests = ShardRequests(workers)
        self._new_loader = partial(
            data_loader,
            StreamShards(self._source),
            self._requests,
            num_workers=workers,
            pin_memory=pin_memory,
            prepare_worker=_prepare_worker,
        )
        self._loader = self._new_loader()

    def __len__(self) -> int:
        """The number of mini-batches in an epoch; TypeError if it isn't known."""
        if self._iterations_per_epoch is None:
            raise TypeError("a StreamLoader without iterations_per_epoch has no len()")
        return self._iterations_per_epoch

    def __bool__(self) -> bool:
        """True, also if the length isn't known."""
        return True

    def __iter__(self) -> Iterator[Any]:
        """The mini-batches of the first epoch."""
        return self.mini_batches(epoch=1)

    def end_workers(self) -> None:
        """Stops the workers. They restart at the position in the stream with the next mini-batch."""
        self._rest_of_pass, self._loader = None, self._new_loader()

    def first_mini_batch(self) -> Any:
        """Returns the first mini-batch of the first pass, read in the current process. The position doesn't change.

        If mini-batches are read in parts, it is the first one of the first part that has samples, on each process.

        Raises:
            DataError: The stream is empty.
        """
        shards = StreamShards(self._source)
        for part in range(self._source.parts):
            for shard in self._source.shards_of(part):
                result = shards[ShardRequest(pass_number=1, shard=shard, number=0, state=None)]
                if result is not None and result.mini_batch is not None:
                    self._checksum = None if self._is_compared else checksum_of(result.mini_batch)
                    return result.mini_batch
        raise _empty_stream_error(self._source.phase)

    def mini_batches(self, epoch: int, start: int = 0) -> Iterator[Any]:
        """Yields the mini-batches of an epoch. If there are several processes, each of them has to iterate.

        Args:
            epoch: The epoch; the first is 1.
            start: The number of mini-batches to skip. They are read again, unless the loader is already at this
                position or can resume from a loaded state.

        Yields:
            Dictionaries of columns, or the return values of the collate function. If mini-batches are read in parts,
            `SplitMiniBatch` of these.

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
        """Returns the position in the stream as plain values. Mini-batches that workers prefetched don't count.

        If there are several processes, each of them has to call it. It returns the position of all parts, the same on
        each process and for any number of processes.
        """
        positions = [asdict(self._position.parts[part]) for part in self._own]
        if self._source.parts > 1:
            own = dict(zip(self._own, positions, strict=True))
            gathered = self._processes.gather(own, f"the position in the stream of {self._source.phase}")
            positions = in_order_of_parts(gathered)
        return replace(self._position, parts=[PartPosition(**one) for one in positions]).to_state()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the position in the stream.

        The next iteration starts at this position if it is an iteration over the same epoch.

        Args:
            state: The return value of `state_dict`, of any number of processes.
        """
        self._position = StreamPosition.from_state(state)
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
        position = self._position
        while True:
            if self._rest_of_pass is None:
                self._rest_of_pass = self._begin_to_read()
            read = self._rest_of_pass.next_mini_batches()
            sizes = self._sizes_of_all_parts(read)
            if any(sizes):
                position.mini_batches += 1
                return self._join(read, sizes)
            self._rest_of_pass = None
            if self._iterations_per_epoch is None:
                return None
            position.begin_pass(position.pass_number + 1)

    def _begin_to_read(self) -> StreamPass:
        if not self._is_compared:
            if self._checksum is None:  # else it was read for a trial
                self.first_mini_batch()
            check_first_mini_batch(self._processes, self._checksum, self._source.phase)
            self._is_compared = True
        source, position = self._source, self._position
        parts = [PartOfPass(position.parts[part], source.shards_of(part), position.pass_number) for part in self._own]
        self._requests.parts = parts
        return StreamPass(self._loader, parts)

    def _sizes_of_all_parts(self, read: Sequence[ShardResult | None]) -> list[int]:
        processes = self._processes if self._source.parts > 1 else ALONE  # each reads whole mini-batches
        has_begun = any(any(self._position.parts[part].given) for part in self._own)
        own = dict(zip(self._own, read, strict=True))
        sizes = gather_sizes(processes, own, has_begun, self._source.phase)
        if not sizes:
            raise _empty_stream_error(self._source.phase)
        return sizes

    def _join(self, read: Sequence[ShardResult | None], sizes: list[int]) -> Any:
        if self._source.parts == 1:
            return next(result.mini_batch for result in read if result is not None)
        return SplitMiniBatch(
            tuple(
                MiniBatchPart(part, result.mini_batch)
                for part, result in zip(self._own, read, strict=True)
                if result is not None
            ),
            samples=sum(sizes) if self._source.collate is None else None,
            with_samples=tuple(part for part, size in enumerate(sizes) if size > 0),
        )

    def _initial_position(self) -> StreamPosition:
        source = self._source
        parts = [PartPosition.at_start(len(source.shards_of(part))) for part in range(source.parts)]
        return StreamPosition(source.mini_batch_size, parts)

    def _check_position(self) -> None:
        position, source = self._position, self._source
        saved, found = len(position.parts), source.parts
        if saved != found:
            raise DataError(
                f"The stream of {source.phase} can't resume from the checkpoint, whose mini-batches were read in "
                f"{_number_of_parts(saved)}, but here they are read in {_number_of_parts(found)}. To fix, resume with "
                f"session.mini_batch_parts = {saved} and the original files."
            )
        saved_stream = position.number_of_shards, position.mini_batch_size
        found_stream = source.shards, source.mini_batch_size
        if saved_stream != found_stream:
            raise DataError(
                f"The stream of {source.phase} can't resume from the checkpoint. The checkpoint has {saved_stream[0]} "
                f"shards and mini-batches of {saved_stream[1]}, but the stream has {found_stream[0]} shards and "
                f"mini-batches of {found_stream[1]}. To fix, resume with the original files and config."
            )
        skipped = sum(position.parts[part].read_again for part in self._own)
        if self._rest_of_pass is None and skipped:
            self._log_reading_again(skipped)

    def _log_reading_again(self, mini_batches: int) -> None:
        logger.info(
            "The stream of %s has no state to resume from exactly (for example, it has a shuffle buffer), so %s "
            "mini-batches are read again and skipped.",
            self._source.phase,
            f"{mini_batches:,}",
        )


def _number_of_parts(number: int) -> str:
    return "1 part" if number == 1 else f"{number} parts"


def _empty_stream_error(phase: str) -> DataError:
    return DataError(f"The stream of {phase} is empty. To fix, check how init_datasets opens, filters or splits it.")


def _prepare_worker(worker: int) -> None:
    prepare_worker(worker)
    # The thread that reads remote files doesn't survive a fork, and waiting for it would block forever.
    from fsspec.asyn import reset_lock  # type: ignore[import-untyped]

    reset_lock()
