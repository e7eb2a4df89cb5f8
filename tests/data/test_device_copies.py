"""The order of things, on the CPU; the copies on a stream of a GPU are run where there is one."""

from typing import NamedTuple

import pytest
import torch
from tiny import make_dataset

from torchbase.data.device_copies import StreamMover, has_streams, map_tensors, moved_ahead
from torchbase.data.loader import MiniBatchLoader
from torchbase.data.order import EpochOrder
from torchbase.randomness import Randomness


class Recording:
    def __init__(self):
        self.done = []

    def start(self, batch):
        self.done.append(f"start {batch}")
        return [batch]

    def finish(self, batch):
        (number,) = batch
        self.done.append(f"finish {number}")
        return number


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_the_next_mini_batch_is_on_its_way_when_one_is_given(count):
    mover, given = Recording(), []
    for number in moved_ahead(range(count), mover):
        mover.done.append(f"use {number}")
        given.append(number)
    assert given == list(range(count))
    for number in range(count - 1):
        assert mover.done.index(f"start {number + 1}") < mover.done.index(f"use {number}")
        assert mover.done.index(f"finish {number + 1}") > mover.done.index(f"use {number}")


class Pair(NamedTuple):
    first: torch.Tensor
    second: str


def test_tensors_are_found_in_any_nesting():
    value = {"x": torch.ones(1), "pair": Pair(torch.ones(1), "a"), "more": [torch.ones(1), (torch.ones(1), 3)]}
    doubled = map_tensors(value, lambda tensor: 2 * tensor)
    assert doubled["x"] == doubled["pair"].first == doubled["more"][0] == doubled["more"][1][0] == 2
    assert doubled["pair"].second == "a"
    assert doubled["more"][1][1] == 3
    assert isinstance(doubled["pair"], Pair)


class Doubling:
    def start(self, batch):
        return map_tensors(batch, lambda tensor: 2 * tensor)

    def finish(self, batch):
        return batch


@pytest.mark.parametrize("start", [0, 3])
def test_a_loader_gives_what_it_read_brought_over_and_can_be_sought(start):
    order = EpochOrder(18, 4, True, "training", Randomness(1))
    plain = MiniBatchLoader(make_dataset(), order)
    moved = MiniBatchLoader(make_dataset(), order, mover=Doubling())
    pairs = list(zip(plain.mini_batches(2, start), moved.mini_batches(2, start), strict=True))
    assert len(pairs) == 5 - start
    for one, other in pairs:
        assert torch.equal(2 * one["x"], other["x"])
        assert one["name"] == other["name"]


def test_devices_without_streams_are_left_alone():
    assert [has_streams(torch.device(name)) for name in ("cpu", "mps", "meta", "cuda", "xpu")] == [False] * 3 + [
        True
    ] * 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_on_a_gpu_mini_batches_arrive_whole_while_it_computes():
    device = torch.device("cuda")
    order = EpochOrder(18, 4, True, "training", Randomness(1))
    plain = MiniBatchLoader(make_dataset(), order)
    moved = MiniBatchLoader(make_dataset(), order, pin_memory=True, mover=StreamMover(device))
    work = torch.randn(4000, 4000, device=device)
    for one, other in zip(plain, moved, strict=True):
        work = work @ work / 4000
        assert other["x"].device.type == "cuda"
        assert torch.equal((other["x"] + 0 * work[0, 0].nan_to_num()).cpu(), one["x"])
