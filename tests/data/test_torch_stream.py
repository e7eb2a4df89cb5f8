"""Iterable datasets of torch in the loader of streams."""

import random

import numpy as np
import pytest
import torch
from torch.utils.data import IterableDataset

from torchbase.data.parts import PartsToRead
from torchbase.data.streaming import StreamLoader
from torchbase.data.torch_stream import TorchStream
from torchbase.errors import DataError
from torchbase.randomness.run_randomness import Randomness

SIZE = 4

# The tests don't depend on the number of cores.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")


class Numbers(IterableDataset):
    """Numbers with a draw each; in another order in each pass."""

    def __init__(self, numbers=range(30)):
        self.numbers, self.epoch = list(numbers), 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        for number in self.numbers[self.epoch % 2 :]:
            yield {"number": number, "drawn": torch.rand(1).item() + np.random.rand() + random.random()}


class Sharded(Numbers):
    num_shards = 6

    def shard(self, num_shards, index):
        return Sharded(self.numbers[index::num_shards])


class Stateful(Numbers):
    """Keeps its position, as the iterable datasets of torchdata do."""

    opened_at = ()

    def __init__(self, numbers=range(30)):
        super().__init__(numbers)
        self.position = 0

    def __iter__(self):
        Stateful.opened_at = (*Stateful.opened_at, self.position)
        while self.position < len(self.numbers):
            self.position += 1
            drawn = torch.rand(1).item() + np.random.rand() + random.random()
            yield {"number": self.numbers[self.position - 1], "drawn": drawn}
        self.position = 0

    def state_dict(self):
        return {"position": self.position}

    def load_state_dict(self, state):
        self.position = state["position"]


class ShardedStateful(Stateful):
    num_shards = 3

    def shard(self, num_shards, index):
        return ShardedStateful(self.numbers[index::num_shards])


KINDS = [Numbers, Sharded, Stateful, ShardedStateful]


def loader_of(kind, **options):
    return StreamLoader(TorchStream(kind(), "training"), SIZE, "training", Randomness(3), **options)


def read(loader, epoch=1, start=0):
    return [
        {name: values.tolist() for name, values in mini_batch.items()}
        for mini_batch in loader.mini_batches(epoch, start)
    ]


def numbers_of(mini_batches):
    return sorted(number for one in mini_batches for number in one["number"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_each_example_is_read_once_with_any_number_of_workers(kind, num_workers):
    loader, expected = loader_of(kind, num_workers=num_workers), loader_of(kind)
    for epoch in (1, 2):
        found = read(loader, epoch)
        assert found == read(expected, epoch)
        assert len(set(numbers_of(found))) == len(numbers_of(found))
    loader.end_workers()


def test_each_pass_has_its_number_and_its_draws():
    loader = loader_of(Numbers)
    first, second = read(loader, 1), read(loader, 2)
    assert numbers_of(first) == list(range(1, 30))
    assert numbers_of(second) == list(range(30))
    drawn = [one for mini_batch in first + second for one in mini_batch["drawn"]]
    assert len(set(drawn)) == len(drawn)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("stop", [1, 4, 5])
def test_a_stream_resumes_exactly(kind, num_workers, stop):
    whole = read(loader_of(kind))
    loader = loader_of(kind, num_workers=num_workers)
    loader.first_mini_batch()  # as the rehearsal does
    stopped = loader.mini_batches(1)
    for _ in range(stop):
        next(stopped)
    state = loader.state_dict()
    loader.end_workers()
    resumed = loader_of(kind, num_workers=num_workers)
    resumed.first_mini_batch()
    resumed.load_state_dict(state)
    assert read(resumed, 1, stop) == whole[stop:]
    resumed.end_workers()


def test_a_stream_with_a_state_is_not_read_again():
    stopped = loader_of(Stateful)
    iterator = stopped.mini_batches(1)
    next(iterator), next(iterator)
    Stateful.opened_at = ()
    resumed = loader_of(Stateful)
    resumed.load_state_dict(stopped.state_dict())
    read(resumed, 1, 2)
    assert Stateful.opened_at == (8,)


def test_two_loaders_of_one_dataset_do_not_share_a_position():
    stream = TorchStream(Stateful(), "training")
    first, second = (StreamLoader(stream, SIZE, "training", Randomness(3)) for _ in range(2))
    iterator = first.mini_batches(1)
    begin = next(iterator)
    whole = read(second)
    assert [begin["number"].tolist(), next(iterator)["number"].tolist()] == [one["number"] for one in whole[:2]]


def test_parts_read_shards_of_their_own():
    loader = loader_of(Sharded, parts=PartsToRead(2, range(2)))
    found = [[part.mini_batch["number"].tolist() for part in one.parts] for one in loader.mini_batches(1)]
    assert all({number % 2 for number in part} <= {0, 1} for one in found for part in one)
    assert sorted(number for one in found for part in one for number in part) == sorted(
        numbers_of(read(loader_of(Sharded)))
    )


def test_a_collate_function_receives_the_examples():
    loader = loader_of(Numbers, collate=lambda examples: [example["number"] for example in examples])
    assert next(iter(loader)) == [1, 2, 3, 4]


class Once(IterableDataset):
    def __init__(self):
        self.numbers = iter(range(10))

    def __iter__(self):
        return self.numbers


def test_a_stream_that_can_be_iterated_only_once_is_refused():
    with pytest.raises(DataError, match=r"a Once, can be iterated only once.*To fix, let __iter__ begin anew"):
        TorchStream(Once(), "training").check_begins_anew()
    TorchStream(Stateful(), "training").check_begins_anew()


@pytest.mark.parametrize("count", [0, 2.0, None, True])
def test_a_number_of_shards_that_is_none_is_refused(count):
    dataset = Sharded()
    dataset.num_shards = count
    with pytest.raises(DataError, match="has num_shards"):
        TorchStream(dataset, "training")
