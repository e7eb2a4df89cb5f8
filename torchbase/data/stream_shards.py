"""The shards of a stream, each read by itself: by a worker, or in the main process behind a fence."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset as IndexedDataset

from torchbase.data.arrow_columns import as_tensor
from torchbase.data.columns import collate_rows
from torchbase.data.reading import Collate, collated
from torchbase.data.stream_position import ShardAnswer, ShardRequest
from torchbase.errors import DataError
from torchbase.randomness import Randomness, fence, seed_host_streams

if TYPE_CHECKING:
    from datasets import IterableDataset

SHARDS_AT_ONCE = 64  # each that is being read has an open file, and a shuffle buffer where there is one


@dataclass(frozen=True)
class StreamSource:
    """What is read, and how.

    A stream of very many shards is read as `SHARDS_AT_ONCE`, each of several of the stream's own.

    Attributes:
        dataset: The stream.
        mini_batch_size: How many examples a mini-batch holds; the last of a shard holds the rest.
        phase: The name of the phase.
        randomness: The seed of the run.
        collate: Makes a mini-batch of a list of examples; without one their columns are stacked.
    """

    dataset: "IterableDataset"
    mini_batch_size: int
    phase: str
    randomness: Randomness
    collate: Collate | None = None

    @property
    def shards(self) -> int:
        """How many shards are read side by side."""
        return int(min(self.dataset.num_shards, SHARDS_AT_ONCE))

    def open(self, shard: int) -> "IterableDataset":
        """Gives a shard as a stream of its own, at its start."""
        return self.dataset.shard(num_shards=self.shards, index=shard)


class StreamShards(IndexedDataset[ShardAnswer | None]):
    """Gives mini-batches by shard and number, and is quick where they are asked for one after the other.

    Each shard that is being read has an iterator. Where that stands elsewhere than at what is asked for, the shard is
    opened anew: from the state, or from its start, in which case what comes before is read and passed over.
    """

    def __init__(self, source: StreamSource) -> None:
        """Prepares the reading; nothing is read yet.

        Args:
            source: What is read.
        """
        self._source = source
        self._readers: dict[int, _ShardReader] = {}

    def __getitem__(self, request: ShardRequest | None) -> ShardAnswer | None:
        """Reads a mini-batch.

        Args:
            request: Which one; None is answered with None.
        """
        if request is None:
            return None
        reader = self._readers.pop(request.shard, None)  # put back below, unless it fails
        try:
            with fence():
                if reader is None or not reader.stands_at(request):
                    reader = _ShardReader(self._source, request)
                answer = reader.read()
        except Exception as error:
            error.add_note(
                f"while reading mini-batch {request.number + 1} of shard {request.shard} of the stream of "
                f"{self._source.phase}, pass {request.pass_number}"
            )
            raise
        self._readers[request.shard] = reader
        return answer


class _ShardReader:
    def __init__(self, source: StreamSource, request: ShardRequest) -> None:
        self._source = source
        self._pass_number, self._shard, self._number, state = request
        self._has_ended = False
        self._stream = source.open(request.shard)
        self._stream.set_epoch(request.pass_number)
        if state is not None:
            self._stream.load_state_dict(dict(state))
        # Not iter(stream): within a worker that would divide the shard among the workers once more.
        self._examples: Iterator[Any] = self._stream.iter(batch_size=1)
        if state is None:
            for number in range(request.number):
                self._next_examples(number)

    def stands_at(self, request: ShardRequest) -> bool:
        is_there = self._number == request.number or (self._has_ended and self._number < request.number)
        return is_there and self._pass_number == request.pass_number

    def read(self) -> ShardAnswer:
        examples = [] if self._has_ended else self._next_examples(self._number)
        self._has_ended = len(examples) < self._source.mini_batch_size
        if not examples:
            return ShardAnswer(self._shard, None, None, has_ended=True)
        rows = [as_row(one) for one in examples]
        collate = self._source.collate
        batch = collate_rows(rows) if collate is None else collated(collate, rows)
        self._number += 1
        state = self._stream.state_dict()
        is_exact = resumes_exactly(state, self._number * self._source.mini_batch_size)
        return ShardAnswer(self._shard, batch, state if is_exact else None, self._has_ended)

    def _next_examples(self, number: int) -> list[Any]:
        # What is passed over is seeded, too: a map of the user's may draw ahead, for examples of later mini-batches.
        source = self._source
        seed_host_streams(source.randomness.derive("reading", source.phase, self._pass_number, self._shard, number))
        return list(islice(self._examples, source.mini_batch_size))


def resumes_exactly(state: Mapping[str, Any], examples: int) -> bool:
    """Tells whether a stream that loads a state goes on as if it had never stopped.

    That is so where nothing was read ahead, which is to say that every counter in the state stands at the examples that
    were given, and where no code of the user's is run for examples that are passed over: tables of Arrow, mapped one
    by one. A shuffle buffer doesn't appear in the state, but the counters beneath it run ahead; and where `datasets`
    gathers rows for it, or for a batched map, that appears.

    Args:
        state: What ``IterableDataset.state_dict()`` gave.
        examples: How many examples the stream has given.

    Returns:
        Whether it is known to be exact.
    """
    return set(_counters(state.get("examples_iterable"))) == {examples}


def _counters(level: Any) -> list[Any]:
    if not isinstance(level, Mapping):
        return [None]
    inner = level.get("examples_iterable")
    match level.get("type"):
        case "ArrowExamplesIterable":
            return [level.get("shard_example_idx")]
        case "RebatchedArrowExamplesIterable" if (inner or {}).get("type") == "ArrowExamplesIterable":
            return [level.get("batch_idx")]
        case "MappedExamplesIterable" if level.get("previous_state") is None:
            return [level.get("previous_state_example_idx"), *_counters(inner)]
    return [None]


def as_row(example: Any) -> dict[str, Any]:
    """Makes what `dataset.with_format("torch")` would give of an example without a format.

    Args:
        example: By column, the values of one example: a list of one, or, under a format, a tensor or array with a
            first dimension of 1.

    Returns:
        By column the value: under a format as it is, else a tensor where it is of numbers.

    Raises:
        DataError: If it isn't a dictionary.
    """
    if not isinstance(example, Mapping):
        raise DataError(
            f"An example of the stream has to be a dictionary of columns, and a {type(example).__name__} came. To fix, "
            "give the stream no format of tables: none, 'torch' or 'numpy'."
        )
    return {
        column: _tensorized(values[0]) if isinstance(values, list) else values[0] for column, values in example.items()
    }


def _tensorized(value: Any) -> Any:
    if value is None or isinstance(value, str | bytes | torch.Tensor):
        return value
    if isinstance(value, bool | int | float | np.number | np.bool_ | np.ndarray | list):
        try:
            numbers = np.array(value)
        except ValueError:  # ragged
            numbers = np.array(None)
        if numbers.dtype.kind in "biuf":
            return as_tensor(numbers, list(numbers.shape))
    from datasets.formatting import get_formatter

    return get_formatter("torch").recursive_tensorize({"value": value})["value"]
