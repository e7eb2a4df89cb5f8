"""What a phase iterates where its data is a stream: mini-batches of a ``datasets.IterableDataset``."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from torchbase.data.reading import Collate, data_loader, prepare_worker
from torchbase.data.stream_position import ShardAnswer, ShardRequest, ShardRequests, StreamPosition
from torchbase.data.stream_shards import StreamShards, StreamSource
from torchbase.errors import DataError
from torchbase.randomness import Randomness

if TYPE_CHECKING:
    from datasets import IterableDataset

logger = logging.getLogger("torchbase")


class StreamLoader:
    """Gives the mini-batches of each epoch of a stream.

    Each shard is read by itself, and the shards give mini-batches in turn, until all have ended: that is one pass.
    What is drawn while a mini-batch is read depends on nothing but the seed, the phase, the pass, the shard and the
    number of the mini-batch within it. So the number of workers changes nothing, and what was handed out can be kept
    and gone on from. There is no length: how many mini-batches a stream gives shows only when it is read.
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
        """Prepares the reading; nothing is read yet.

        Args:
            dataset: The stream. Without a format of its own its numbers come as tensors.
            mini_batch_size: How many examples a mini-batch holds; the last of each shard holds the rest.
            phase: The name of the phase.
            randomness: The seed of the run.
            iterations_per_epoch: How many mini-batches make an epoch; the next epoch goes on where the stream stands,
                and the stream begins anew when it ends. Without it an epoch is one pass.
            collate: Makes a mini-batch of a list of examples; without one their columns are stacked.
            num_workers: How many processes read ahead at the most: as many as divide the number of shards evenly.
            pin_memory: Whether to put tensors into pinned memory, for fast copies to a GPU.
        """
        self._source = StreamSource(dataset, mini_batch_size, phase, randomness, collate)
        self._iterations_per_epoch = iterations_per_epoch
        self._shards = self._source.shards
        self._position = self._beginning()
        self._rest_of_pass: Iterator[Any] | None = None
        workers = _workers_for(self._shards, num_workers, phase)
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
        """Ends the workers; they begin anew, where the stream stands, when the next mini-batch is asked for."""
        self._rest_of_pass, self._loader = None, self._new_loader()

    def first_mini_batch(self) -> Any:
        """Gives the first mini-batch of the first pass, read by the caller's own process; the position stays.

        Raises:
            DataError: If the stream is empty.
        """
        shards = StreamShards(self._source)
        for shard in range(self._shards):
            answer = shards[ShardRequest(pass_number=1, shard=shard, number=0, state=None)]
            if answer is not None and answer.mini_batch is not None:
                return answer.mini_batch
        raise _is_empty(self._source.phase)

    def mini_batches(self, epoch: int, start: int = 0) -> Iterator[Any]:
        """Gives the mini-batches of an epoch.

        Args:
            epoch: The epoch; the first is 1.
            start: How many mini-batches to pass over. They are read again, unless the loader stands there, or can go
                on from a state that was loaded.

        Yields:
            Dictionaries of columns, or what the collate function returns.

        Raises:
            DataError: If the stream is empty, or the loaded state is of another stream.
        """
        self._go_to(epoch, start)
        while self._iterations_per_epoch is None or self._position.mini_batches < self._iterations_per_epoch:
            mini_batch = self._next()
            if mini_batch is None:
                return
            yield mini_batch

    def state_dict(self) -> dict[str, Any]:
        """Gives how much was handed out, as plain values; what workers have read ahead doesn't count."""
        return asdict(self._position)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the position in the stream.

        The next epoch that is read begins there, if it is the epoch of the position.

        Args:
            state: What `state_dict` returned.
        """
        self._position = StreamPosition(**deepcopy(dict(state)))
        self._rest_of_pass = None

    def _go_to(self, epoch: int, start: int) -> None:
        position, iterations = self._position, self._iterations_per_epoch
        if iterations is not None and (epoch, start) == (position.epoch + 1, 0):
            position.epoch, position.mini_batches = epoch, 0
        if (position.epoch, position.mini_batches) == (epoch, start):
            self._check_what_was_loaded()
            return
        self._position, self._rest_of_pass = self._beginning(), None
        before = start if iterations is None else (epoch - 1) * iterations + start
        if iterations is None:
            self._position.begin_pass(epoch)
        if before:
            self._log_reading_again(before)
        for _ in range(before):
            self._next()
        self._position.epoch, self._position.mini_batches = epoch, start

    def _next(self) -> Any:
        """The next mini-batch; None where the pass, and with it the epoch, has ended."""
        if self._rest_of_pass is None:
            self._requests.position = self._position
            self._rest_of_pass = _pass(self._loader, self._position, self._source.phase)
        mini_batch = next(self._rest_of_pass, None)
        if mini_batch is None:
            self._rest_of_pass = None
            if self._iterations_per_epoch is not None:
                self._position.begin_pass(self._position.pass_number + 1)
                return self._next()
        return mini_batch

    def _beginning(self) -> StreamPosition:
        shards = self._shards
        return StreamPosition(self._source.mini_batch_size, [0] * shards, [False] * shards, [None] * shards)

    def _check_what_was_loaded(self) -> None:
        position = self._position
        kept, found = (len(position.given), position.mini_batch_size), (self._shards, self._source.mini_batch_size)
        if kept != found:
            raise DataError(
                f"The stream of {self._source.phase} can't go on where the checkpoint left it: that was written with "
                f"{kept[0]} shards and mini-batches of {kept[1]}, and there are {found[0]} shards and mini-batches of "
                f"{found[1]}. To fix, resume with the files and the config that the run was begun with."
            )
        again = zip(position.given, position.has_ended, position.states, strict=True)
        to_pass_over = sum(given for given, has_ended, state in again if state is None and not has_ended)
        if self._rest_of_pass is None and to_pass_over:
            self._log_reading_again(to_pass_over)

    def _log_reading_again(self, mini_batches: int) -> None:
        logger.info(
            "The stream of %s keeps no state to go on from exactly (for instance, it has a shuffle buffer), so what "
            "was read of it is read again and passed over: %s mini-batches.",
            self._source.phase,
            f"{mini_batches:,}",
        )


# No method, so that no cycle of references keeps the workers' queues until somebody collects garbage: a worker might.
def _pass(loader: Iterable[ShardAnswer | None], position: StreamPosition, phase: str) -> Iterator[Any]:
    for answer in loader:
        if answer is not None:
            # Before it is handed out: a checkpoint is written while this generator waits for the next call.
            position.take(answer)
            if answer.mini_batch is not None:
                yield answer.mini_batch
    if not any(position.given):
        raise _is_empty(phase)


def _is_empty(phase: str) -> DataError:
    return DataError(f"The stream of {phase} is empty. To fix, look at how init_datasets opens, filters or splits it.")


def _workers_for(shards: int, num_workers: int, phase: str) -> int:
    workers = max((count for count in range(1, num_workers + 1) if shards % count == 0), default=0)
    if workers < num_workers:
        logger.info(
            "%s is read by %d of %d workers: its stream has %d shards, and each worker reads the same number of them.",
            phase,
            workers,
            num_workers,
            shards,
        )
    return workers


def _prepare_worker(worker: int) -> None:
    prepare_worker(worker)
    # The thread that reads remote files doesn't live on in a forked process, and waiting for it would last for ever.
    from fsspec.asyn import reset_lock  # type: ignore[import-untyped]

    reset_lock()
