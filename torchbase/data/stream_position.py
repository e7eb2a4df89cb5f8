"""The position in a stream, and the order in which mini-batches are read from its shards."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


class ShardRequest(NamedTuple):
    """A request for a mini-batch of a shard.

    Attributes:
        pass_number: The pass over the stream, from 1.
        shard: The index of the shard, from 0.
        number: The index of the mini-batch in the shard, from 0.
        state: ``ShardResult.state`` of the previous mini-batch of the shard, if known.
    """

    pass_number: int
    shard: int
    number: int
    state: Mapping[str, Any] | None


class ShardResult(NamedTuple):
    """A mini-batch of a shard.

    Attributes:
        shard: The index of the shard, from 0.
        mini_batch: The mini-batch; None at the end of the shard.
        state: The state from which the shard resumes exactly after this mini-batch; None if it has no such state.
        has_ended: Whether this mini-batch is known to be the last mini-batch of the shard.
    """

    shard: int
    mini_batch: Mapping[str, Any] | None
    state: dict[str, Any] | None
    has_ended: bool


@dataclass
class StreamPosition:
    """The position in a stream. Checkpoints save its attributes.

    Attributes:
        mini_batch_size: The number of examples in a mini-batch.
        given: The number of mini-batches of this pass that were returned from each shard.
        has_ended: Whether each shard is known to have ended.
        states: The state from which each shard resumes; None if it has to be read again from its start.
        pass_number: The pass over the stream, from 1.
        turn: The index of the shard of the next mini-batch.
        epoch: The epoch, from 1.
        mini_batches: The number of mini-batches of this epoch that were returned.
    """

    mini_batch_size: int
    given: list[int]
    has_ended: list[bool]
    states: list[dict[str, Any] | None]
    pass_number: int = 1
    turn: int = 0
    epoch: int = 1
    mini_batches: int = 0

    def advance(self, result: ShardResult) -> None:
        """Moves the position after the mini-batch of a result, or to the end of its shard."""
        self.has_ended[result.shard] = result.has_ended
        if result.mini_batch is None:
            return
        self.given[result.shard] += 1
        self.states[result.shard] = result.state
        self.turn = (result.shard + 1) % len(self.given)
        self.mini_batches += 1

    def begin_pass(self, pass_number: int) -> None:
        """Moves the position to the start of a pass."""
        shards = len(self.given)
        self.given, self.has_ended, self.states = [0] * shards, [False] * shards, [None] * shards
        self.pass_number, self.turn = pass_number, 0


class ShardRequests:
    """An iterable of requests to all shards in turn. Each shard is always read by the same worker."""

    def __init__(self, position: StreamPosition, workers: int) -> None:
        """Sets the start of the requests.

        Args:
            position: The position at which an iteration starts. The results of the requests have to advance it.
            workers: The number of workers. The number of shards is a multiple of it.
        """
        self.position = position
        self._group = max(workers, 1)  # the number of shards that are requested together, one per worker

    def __iter__(self) -> Iterator[ShardRequest | None]:
        """Yields requests until all shards have ended. None skips the turn of a worker."""
        position = self.position  # the requests run ahead of it
        numbers, states, turn = list(position.given), list(position.states), position.turn
        while not all(position.has_ended):
            for first in range(0, len(numbers), self._group):
                group = range(first, first + self._group)
                if group.stop <= turn or all(position.has_ended[shard] for shard in group):
                    continue
                for shard in group:
                    if shard < turn or position.has_ended[shard]:
                        yield None  # so that the next shard is requested from its worker
                        continue
                    yield ShardRequest(position.pass_number, shard, numbers[shard], states[shard])
                    numbers[shard], states[shard] = numbers[shard] + 1, None
            turn = 0
