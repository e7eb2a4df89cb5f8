"""A pass over a stream: which mini-batches are requested from its shards, and in which order they are returned."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle

from torchbase.data.stream_position import PartPosition, ShardRequest, ShardResult


class PartOfPass:
    """The shards of one part of the mini-batches, which take turns. Requests run ahead of the position of the part."""

    def __init__(self, position: PartPosition, shards: range, pass_number: int) -> None:
        """Begins at a position.

        Args:
            position: The position. It moves when a mini-batch is taken.
            shards: The shards of the part.
            pass_number: The pass over the stream, from 1.
        """
        self.shards = shards
        self.requested = 0  # the number of mini-batches that were requested, without those that don't exist
        self._position, self._pass_number = position, pass_number
        self._numbers, self._states, self._turn = list(position.given), list(position.states), position.turn
        self._has_ended = list(position.has_ended)
        self._received: deque[ShardResult] = deque()
        self._mini_batches = 0  # of those that were received

    @property
    def next_shard(self) -> int | None:
        """The index, among the shards of the part, of the one to request from; None if all have ended."""
        indices = (*range(self._turn, len(self.shards)), *range(self._turn))
        return next((index for index in indices if not self._has_ended[index]), None)

    def request(self, index: int) -> ShardRequest:
        """Returns the request for the next mini-batch of a shard.

        Args:
            index: The index of the shard among the shards of the part.
        """
        request = ShardRequest(self._pass_number, self.shards[index], self._numbers[index], self._states[index])
        self._numbers[index], self._states[index] = request.number + 1, None
        self._turn = (index + 1) % len(self.shards)
        self.requested += 1
        return request

    def receive(self, result: ShardResult) -> None:
        """Stores the result of the oldest request that has none."""
        self._has_ended[self.shards.index(result.shard)] = result.has_ended
        self._received.append(result)
        if result.mini_batch is None:
            self.requested -= 1
        else:
            self._mini_batches += 1

    @property
    def is_ready(self) -> bool:
        """Whether the next mini-batch was received, or the part is known to have ended."""
        return self._mini_batches > 0 or all(self._has_ended)

    def take(self) -> ShardResult | None:
        """Returns the next mini-batch, and moves the position; None at the end of the part."""
        while self._received:
            result = self._received.popleft()
            self._position.advance(self.shards.index(result.shard), result)
            if result.mini_batch is not None:
                self._mini_batches -= 1
                return result
        return None


class ShardRequests:
    """An iterable of requests to the shards of several parts. Each shard is always read by the same worker.

    The part with the fewest requests is next, so no part is read further ahead than it has to be.
    """

    def __init__(self, workers: int) -> None:
        """Sets the number of workers.

        Args:
            workers: The number of workers. It divides the number of parts times the number of shards of each part.
        """
        self.parts: Sequence[PartOfPass] = ()
        self._workers = max(workers, 1)

    def __iter__(self) -> Iterator[ShardRequest | None]:
        """Yields requests until all shards have ended. None skips the turn of a worker."""
        parts = self.parts
        for worker in cycle(range(self._workers)):  # as torch deals out the requests
            waiting = [
                (part.requested, index, shard)
                for index, part in enumerate(parts)
                if (shard := part.next_shard) is not None
            ]
            if not waiting:
                return
            _, index, shard = min(waiting)
            is_its_turn = (shard * len(parts) + index) % self._workers == worker
            yield parts[index].request(shard) if is_its_turn else None


class StreamPass:
    """The rest of a pass. It doesn't refer to the loader, since a cycle would keep the queues of the workers alive."""

    def __init__(self, results: Iterable[ShardResult | None], parts: Sequence[PartOfPass]) -> None:
        """Begins to read.

        Args:
            results: The results of the requests for ``parts``, in order.
            parts: The parts of this process.
        """
        self._parts = parts
        self._part_of = {shard: part for part in parts for shard in part.shards}
        self._results = iter(results) if self._part_of else iter(())

    def next_mini_batches(self) -> list[ShardResult | None]:
        """Reads the next mini-batch of each part, and moves the positions.

        Returns:
            By part, the mini-batch; None if the part has ended.
        """
        while not all(part.is_ready for part in self._parts):
            result = next(self._results)
            if result is not None:
                self._part_of[result.shard].receive(result)
        return [part.take() for part in self._parts]
