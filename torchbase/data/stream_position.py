"""How much of a stream was handed out, and in what order its shards are asked for mini-batches."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


class ShardRequest(NamedTuple):
    """Which mini-batch is asked for.

    Attributes:
        pass_number: The pass over the stream, from 1.
        shard: The shard, from 0.
        number: The mini-batch within the shard, from 0.
        state: What ``ShardAnswer.state`` was with the mini-batch before, if it is known.
    """

    pass_number: int
    shard: int
    number: int
    state: Mapping[str, Any] | None


class ShardAnswer(NamedTuple):
    """A mini-batch of a shard.

    Attributes:
        shard: The shard, from 0.
        mini_batch: The mini-batch; None where there is no further one.
        state: With what the shard goes on exactly behind this mini-batch; None where that isn't known.
        has_ended: Whether there is known to be nothing behind it.
    """

    shard: int
    mini_batch: Mapping[str, Any] | None
    state: dict[str, Any] | None
    has_ended: bool


@dataclass
class StreamPosition:
    """How much of a stream was handed out.

    Attributes:
        mini_batch_size: How many examples a mini-batch holds.
        given: How many mini-batches of this pass each shard has given.
        has_ended: Whether each shard is known to hold no more.
        states: With what each shard goes on; None where it has to be read again from its start.
        pass_number: The pass over the stream, from 1.
        turn: The shard that gives the next mini-batch.
        epoch: The epoch, from 1.
        mini_batches: How many mini-batches of this epoch were handed out.
    """

    mini_batch_size: int
    given: list[int]
    has_ended: list[bool]
    states: list[dict[str, Any] | None]
    pass_number: int = 1
    turn: int = 0
    epoch: int = 1
    mini_batches: int = 0

    def take(self, answer: ShardAnswer) -> None:
        """Counts a mini-batch that is handed out, or notes that a shard has ended."""
        self.has_ended[answer.shard] = answer.has_ended
        if answer.mini_batch is None:
            return
        self.given[answer.shard] += 1
        self.states[answer.shard] = answer.state
        self.turn = (answer.shard + 1) % len(self.given)
        self.mini_batches += 1

    def begin_pass(self, pass_number: int) -> None:
        """Goes to the start of a pass."""
        shards = len(self.given)
        self.given, self.has_ended, self.states = [0] * shards, [False] * shards, [None] * shards
        self.pass_number, self.turn = pass_number, 0


class ShardRequests:
    """Asks each shard in turn; with workers, always the same one for the same shard."""

    def __init__(self, position: StreamPosition, workers: int) -> None:
        """Sets what to ask for.

        Args:
            position: Where to begin when this is iterated; it is then to be moved by what is answered.
            workers: How many workers there are; the number of shards is a multiple of it.
        """
        self.position = position
        self._group = max(workers, 1)  # shards that are asked for at a time, one of each worker

    def __iter__(self) -> Iterator[ShardRequest | None]:
        """The requests, and None for those that only keep the turns of the workers, until all shards have ended."""
        position = self.position  # while this runs ahead of it
        numbers, states, turn = list(position.given), list(position.states), position.turn
        while not all(position.has_ended):
            for first in range(0, len(numbers), self._group):
                group = range(first, first + self._group)
                if group.stop <= turn or all(position.has_ended[shard] for shard in group):
                    continue
                for shard in group:
                    if shard < turn or position.has_ended[shard]:
                        yield None  # so that the next shard is asked of its own worker
                        continue
                    yield ShardRequest(position.pass_number, shard, numbers[shard], states[shard])
                    numbers[shard], states[shard] = numbers[shard] + 1, None
            turn = 0
