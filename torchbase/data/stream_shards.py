"""The shards of a stream. Each shard is read separately, in a worker or in the main process."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset as IndexedDataset

from torchbase.data.arrow_columns import as_tensor
from torchbase.data.changing_columns import ChangingColumns
from torchbase.data.collating import collate_samples
from torchbase.data.columns import collate_rows
from torchbase.data.parts import samples_of_parts
from torchbase.data.reading import Collate, call_collate
from torchbase.data.stream_position import ShardRequest, ShardResult
from torchbase.data.torch_stream import TorchStream
from torchbase.errors import DataError
from torchbase.randomness.run_randomness import Randomness
from torchbase.randomness.streams import isolate_rng, seed_host_streams

if TYPE_CHECKING:
    from datasets import IterableDataset

SHARDS_AT_ONCE = 64  # each of them has an open file, and a shuffle buffer if the stream is shuffled


@dataclass(frozen=True)
class StreamSource:
    """A stream and the settings for reading it.

    Each shard belongs to one part of the mini-batches: of P parts, part p has the shards p, p + P, p + 2P and so on. Of
    a stream with many shards, several are combined, so that at most `SHARDS_AT_ONCE` are read, or one per part.

    Attributes:
        dataset: The stream.
        mini_batch_size: The number of examples in a mini-batch. The last mini-batch of a shard can be smaller.
        phase: The name of the phase.
        randomness: The seed of the run.
        collate: Collates a list of examples into a mini-batch. None stacks the columns.
        parts: The number of parts of a mini-batch, at most its size.
    """

    dataset: "IterableDataset | TorchStream"
    mini_batch_size: int
    phase: str
    randomness: Randomness
    collate: Collate | None = None
    parts: int = 1

    @property
    def shards(self) -> int:
        """The number of shards that are read concurrently. If shards are combined, each part has the same number."""
        per_part = max(SHARDS_AT_ONCE // self.parts, 1)
        return int(min(self.dataset.num_shards, per_part * self.parts))

    def shards_of(self, part: int) -> range:
        """Returns the shards of a part."""
        return range(part, self.shards, self.parts)

    def size_of(self, shard: int) -> int:
        """Returns the number of examples that a shard yields at a time: the size of its part of a mini-batch."""
        return len(samples_of_parts(self.mini_batch_size, self.parts)[shard % self.parts])

    def open(self, shard: int) -> "IterableDataset | TorchStream":
        """Returns a shard as a stream, at its start."""
        with torch.device("cpu"):  # for a counter in memory that processes share
            return self.dataset.shard(num_shards=self.shards, index=shard)

    def collated(self, examples: list[Any]) -> Any:
        """Returns a mini-batch of examples."""
        is_table = not isinstance(self.dataset, TorchStream)
        samples = [to_row(example) for example in examples] if is_table else examples
        if self.collate is not None:
            return call_collate(self.collate, samples)
        return collate_rows(samples) if is_table else collate_samples(samples)

    @property
    def is_stacked_by_chance(self) -> bool:
        """Whether columns are stacked in the mini-batches in which their shapes are equal."""
        return self.collate is None and not isinstance(self.dataset, TorchStream)


class StreamShards(IndexedDataset[ShardResult | None]):
    """A dataset of mini-batches by shard and number. Reading the mini-batches of a shard in order is fast.

    Each open shard has an iterator. If its position differs from that of a request, the shard is opened again: at the
    state of the request, or at the start of the shard. In the latter case, the previous mini-batches are read and
    skipped.
    """

    def __init__(self, source: StreamSource) -> None:
        """Prepares the reading. Nothing is read yet.

        Args:
            source: The stream.
        """
        self._source = source
        self._readers: dict[int, _ShardReader] = {}
        self._changing = ChangingColumns(f"the stream of {source.phase}")

    def __getitem__(self, request: ShardRequest | None) -> ShardResult | None:
        """Reads a mini-batch.

        Args:
            request: The request; None returns None.
        """
        if request is None:
            return None
        reader = self._readers.pop(request.shard, None)  # stored again below, unless reading fails
        try:
            with isolate_rng():
                if reader is None or not reader.is_at(request):
                    reader = _ShardReader(self._source, request)
                result = reader.read()
        except Exception as error:
            error.add_note(
                f"while reading mini-batch {request.number + 1} of shard {request.shard} of the stream of "
                f"{self._source.phase}, pass {request.pass_number}"
            )
            raise
        self._readers[request.shard] = reader
        if self._source.is_stacked_by_chance and result.mini_batch is not None:
            for column, values in result.mini_batch.items():
                self._changing.check(column, values)
        return result


class _ShardReader:
    def __init__(self, source: StreamSource, request: ShardRequest) -> None:
        self._source = source
        self._pass_number, self._shard, self._number, state = request
        self._size = source.size_of(request.shard)
        self._has_ended = False
        self._stream = source.open(request.shard)
        self._stream.set_epoch(request.pass_number)
        if state is not None:
            self._stream.load_state_dict(dict(state))
        # Not iter(stream): in a worker, it would split the shard among the workers again.
        self._examples: Iterator[Any] = self._stream.iter(batch_size=1)
        if state is None:
            for number in range(request.number):
                self._next_examples(number)

    def is_at(self, request: ShardRequest) -> bool:
        has_number = self._number == request.number or (self._has_ended and self._number < request.number)
        return has_number and self._pass_number == request.pass_number

    def read(self) -> ShardResult:
        examples = [] if self._has_ended else self._next_examples(self._number)
        self._has_ended = len(examples) < self._size
        if not examples:
            return ShardResult(self._shard, None, 0, None, has_ended=True)
        batch = self._source.collated(examples)
        self._number += 1
        state = self._state_after(self._number * self._size)
        return ShardResult(self._shard, batch, len(examples), state, self._has_ended)

    def _state_after(self, examples: int) -> dict[str, Any] | None:
        state = self._stream.state_dict()
        if isinstance(self._stream, TorchStream):
            return state
        return state if state is not None and resumes_exactly(state, examples) else None

    def _next_examples(self, number: int) -> list[Any]:
        # Also seeded for skipped mini-batches: a map of the user can draw ahead, for examples of later mini-batches.
        source = self._source
        seed_host_streams(source.randomness.derive("reading", source.phase, self._pass_number, self._shard, number))
        return list(islice(self._examples, self._size))


def resumes_exactly(state: Mapping[str, Any], examples: int) -> bool:
    """Returns whether a stream that loads a state continues exactly as if it had not been interrupted.

    Two conditions are needed. Nothing is read ahead: each counter in the state equals the number of returned examples.
    And no code of the user runs for skipped examples: the stream consists of Arrow tables, mapped example by example. A
    shuffle buffer is not in the state, but the counters below it run ahead. The rows that `datasets` collects for a
    shuffle buffer or a batched map are in the state.

    Args:
        state: The return value of ``IterableDataset.state_dict()``.
        examples: The number of examples that the stream has returned.

    Returns:
        Whether the stream is known to resume exactly.
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


def to_row(example: Any) -> dict[str, Any]:
    """Converts an example to the values of `dataset.with_format("torch")`, unless the stream has a format.

    Args:
        example: The columns of one example. A column is a list with one value; if the stream has a format, it is a
            tensor or array with a first dimension of 1.

    Returns:
        The values by column. If the stream has a format, they are unchanged; otherwise numbers are tensors.

    Raises:
        DataError: The example is not a dictionary.
    """
    if not isinstance(example, Mapping):
        raise DataError(
            f"An example of the stream has to be a dictionary of columns, but got {type(example).__name__}. To fix, "
            "use no format, 'torch' or 'numpy'; formats of tables are not supported."
        )
    return {
        column: _to_tensor(values[0]) if isinstance(values, list) else values[0] for column, values in example.items()
    }


def _to_tensor(value: Any) -> Any:
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

    return get_formatter("torch", device="cpu").recursive_tensorize({"value": value})["value"]
