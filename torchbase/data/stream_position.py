"""The position in a stream: how far its shards have been read, for each part of its mini-batches."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
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
        examples: The number of examples that were read for it.
        state: The state from which the shard resumes exactly after this mini-batch; None if it has no such state.
        has_ended: Whether this mini-batch is known to be the last mini-batch of the shard.
    """

    shard: int
    mini_batch: Mapping[str, Any] | None
    examples: int
    state: dict[str, Any] | None
    has_ended: bool


@dataclass
class PartPosition:
    """The position in the shards of one part of the mini-batches.

    Attributes:
        given: The number of mini-batches of this pass that were returned from each shard.
        has_ended: Whether each shard is known to have ended.
        states: The state from which each shard resumes; None if it has to be read again from its start.
        turn: The index, among the shards of the part, of the shard of the next mini-batch.
    """

    given: list[int]
    has_ended: list[bool]
    states: list[dict[str, Any] | None]
    turn: int = 0

    @classmethod
    def at_start(cls, shards: int) -> "PartPosition":
        """Returns the position at the start of a pass.

        Args:
            shards: The number of shards of the part.
        """
        return cls([0] * shards, [False] * shards, [None] * shards)

    @property
    def read_again(self) -> int:
        """The number of mini-batches that are read again before the part can resume."""
        shards = zip(self.given, self.has_ended, self.states, strict=True)
        return sum(given for given, has_ended, state in shards if state is None and not has_ended)

    def advance(self, index: int, result: ShardResult) -> None:
        """Moves the position after the mini-batch of a result, or to the end of its shard.

        Args:
            index: The index of the shard among the shards of the part.
            result: The result.
        """
        self.has_ended[index] = result.has_ended
        if result.mini_batch is None:
            return
        self.given[index] += 1
        self.states[index] = result.state
        self.turn = (index + 1) % len(self.given)


@dataclass
class StreamPosition:
    """The position in a stream.

    Attributes:
        mini_batch_size: The number of examples in a mini-batch.
        parts: The position of each part of the mini-batches. Those of other processes are as they were loaded.
        pass_number: The pass over the stream, from 1.
        epoch: The epoch, from 1.
        mini_batches: The number of mini-batches of this epoch that were returned.
    """

    mini_batch_size: int
    parts: list[PartPosition]
    pass_number: int = 1
    epoch: int = 1
    mini_batches: int = 0

    @property
    def number_of_shards(self) -> int:
        """The number of shards of all parts."""
        return sum(len(part.given) for part in self.parts)

    def begin_pass(self, pass_number: int) -> None:
        """Moves the position to the start of a pass."""
        self.parts = [PartPosition.at_start(len(part.given)) for part in self.parts]
        self.pass_number = pass_number

    def to_state(self) -> dict[str, Any]:
        """Returns the attributes as plain values, for a checkpoint. A single part has no level of its own."""
        state = asdict(self)
        if len(self.parts) == 1:
            state.update(state.pop("parts")[0])
        return state

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "StreamPosition":
        """Returns the position of a state.

        Args:
            state: The return value of `to_state`.
        """
        values = deepcopy(dict(state))
        parts = values.pop("parts", None)
        if parts is None:
            parts = [{name: values.pop(name) for name in ("given", "has_ended", "states", "turn")}]
        return cls(parts=[PartPosition(**part) for part in parts], **values)
