"""The requests of a pass and their results, with workers that are any number of requests behind."""

import math
from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from torchbase.data.stream_pass import PartOfPass, ShardRequests, StreamPass
from torchbase.data.stream_position import PartPosition, ShardResult


class Answers:
    """Answers requests in order, ``ahead`` of them later: as many as torch sends to workers ahead."""

    def __init__(self, requests, lengths, knows_ends, ahead):
        self.requests, self.lengths, self.knows_ends, self.ahead = requests, lengths, knows_ends, ahead
        self.workers, self.received, self.skipped = {}, [], 0

    def __iter__(self):
        waiting = deque()
        for index, request in enumerate(self.requests):
            waiting.append(request)
            if request is not None:
                self.workers.setdefault(request.shard, set()).add(index % self.requests.workers)
            while len(waiting) > self.ahead:
                yield self.answer(waiting.popleft())
        while waiting:
            yield self.answer(waiting.popleft())

    def answer(self, request):
        if request is None:
            self.skipped += 1
            return None
        left = self.lengths[request.shard] - request.number
        has_ended = left < 1 or (left == 1 and self.knows_ends[request.shard])
        mini_batch = {"number": request.number} if left > 0 else None
        if mini_batch is not None:
            self.received.append(request.shard)
        return ShardResult(request.shard, mini_batch, int(left > 0), {"after": request.number}, has_ended)


class Requests(ShardRequests):
    def __init__(self, workers):
        super().__init__(workers)
        self.workers = max(workers, 1)


def expected_parts(lengths, parts):
    """By part, the mini-batches in the order in which its shards take turns."""
    of_parts = []
    for part in range(parts):
        pairs = [(number, shard) for shard in range(part, len(lengths), parts) for number in range(lengths[shard])]
        of_parts.append([(shard, number) for number, shard in sorted(pairs)])
    return of_parts


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_each_shard_has_one_worker_and_no_part_is_read_further_ahead_than_the_workers_are(data):
    parts = data.draw(st.integers(1, 4), "parts")
    lengths = data.draw(st.lists(st.integers(0, 5), min_size=parts, max_size=9), "mini-batches by shard")
    knows_ends = data.draw(st.lists(st.booleans(), min_size=len(lengths), max_size=len(lengths)), "last is short")
    own = data.draw(st.integers(0, parts - 1)), data.draw(st.integers(1, parts))
    own = range(min(own), max(own) + (own[0] == own[1]))
    shards = [range(part, len(lengths), parts) for part in own]
    evenly = len(shards) * math.gcd(*map(len, shards))
    workers = data.draw(st.sampled_from([0, *(count for count in range(1, 9) if evenly % count == 0)]), "workers")
    ahead = data.draw(st.integers(0, 2 * workers), "ahead")

    positions = [PartPosition.at_start(len(of_part)) for of_part in shards]
    expected = [expected_parts(lengths, parts)[part] for part in own]
    taken, length = [[] for _ in own], max(map(len, expected))
    stop = data.draw(st.integers(0, length), "resumed after")
    for steps in (stop, length - stop + 1):  # the second pass goes on at the positions of the first
        requests = Requests(workers)
        requests.parts = [PartOfPass(*one, 1) for one in zip(positions, shards, strict=True)]
        answers = Answers(requests, lengths, knows_ends, ahead)
        reading = StreamPass(answers, requests.parts)
        before = [len(one) for one in taken]
        for _ in range(steps):
            for one, result in zip(taken, reading.next_mini_batches(), strict=True):
                if result is not None:
                    one.append((result.shard, result.mini_batch["number"]))
            for one, of_part, number in zip(taken, shards, before, strict=True):
                received = sum(shard in of_part for shard in answers.received)
                assert 0 <= received - (len(one) - number) <= ahead
        assert all(len(of_shard) == 1 for of_shard in answers.workers.values())
    assert taken == expected
    assert all(all(position.has_ended) for position in positions)
    for position, of_part in zip(positions, shards, strict=True):
        assert position.given == [lengths[shard] for shard in of_part]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.data())
def test_no_worker_waits_if_the_parts_have_equal_shards(parts, shards_of_part, length, data):
    shards = [range(part, parts * shards_of_part, parts) for part in range(parts)]
    workers = data.draw(st.sampled_from([one for one in range(1, 17) if (parts * shards_of_part) % one == 0]))
    requests = Requests(workers)
    requests.parts = [PartOfPass(PartPosition.at_start(shards_of_part), one, 1) for one in shards]
    lengths = [length] * (parts * shards_of_part)
    answers = Answers(requests, lengths, [True] * len(lengths), ahead=2 * workers)
    reading = StreamPass(answers, requests.parts)
    for _ in range(length * shards_of_part):
        assert None not in reading.next_mini_batches()
    assert answers.skipped == 0
