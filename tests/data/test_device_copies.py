"""Tests the order of the steps on the CPU. The copies on a stream are tested if a GPU is available."""

from collections import OrderedDict, UserDict
from types import MappingProxyType
from typing import NamedTuple

import pytest
import torch
from tiny import make_dataset
from torch.nn.utils.rnn import pack_sequence

from torchbase.data.device_copies import StreamMover, has_streams, map_tensors, prefetch
from torchbase.data.loader import MiniBatchLoader
from torchbase.data.order import EpochOrder
from torchbase.randomness.run_randomness import Randomness


class Recording:
    def __init__(self):
        self.steps = []

    def start(self, batch):
        self.steps.append(f"start {batch}")
        return [batch]

    def finish(self, batch):
        (number,) = batch
        self.steps.append(f"finish {number}")
        return number


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_the_next_copy_starts_before_a_mini_batch_is_returned(count):
    mover, returned = Recording(), []
    for number in prefetch(range(count), mover):
        mover.steps.append(f"use {number}")
        returned.append(number)
    assert returned == list(range(count))
    for number in range(count - 1):
        assert mover.steps.index(f"start {number + 1}") < mover.steps.index(f"use {number}")
        assert mover.steps.index(f"finish {number + 1}") > mover.steps.index(f"use {number}")


class Pair(NamedTuple):
    first: torch.Tensor
    second: str


def test_tensors_are_found_in_any_nested_structure():
    value = {"x": torch.ones(1), "pair": Pair(torch.ones(1), "a"), "more": [torch.ones(1), (torch.ones(1), 3)]}
    doubled = map_tensors(value, lambda tensor: 2 * tensor)
    assert doubled["x"] == doubled["pair"].first == doubled["more"][0] == doubled["more"][1][0] == 2
    assert doubled["pair"].second == "a"
    assert doubled["more"][1][1] == 3
    assert isinstance(doubled["pair"], Pair)


class Encoding(UserDict):
    kind = "encoding"


def test_dictionaries_keep_their_class_and_other_structures_are_unchanged():
    encoding = Encoding({"x": torch.ones(1)})
    encoding.kind = "changed"
    packed = pack_sequence([torch.ones(2, 3), torch.ones(1, 3)])
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(1)], layout=torch.jagged)
    value = {"encoding": encoding, "ordered": OrderedDict(x=torch.ones(1)), "fixed": MappingProxyType({"x": "a"})}
    others = {"packed": packed, "nested": nested, "sparse": torch.ones(2).to_sparse()}
    doubled = map_tensors({**value, **others}, lambda tensor: 2 * tensor)
    assert type(doubled["encoding"]) is Encoding
    assert doubled["encoding"].kind == "changed"
    assert doubled["encoding"]["x"] == 2
    assert encoding["x"] == 1
    assert type(doubled["ordered"]) is OrderedDict
    assert doubled["fixed"] == {"x": "a"}
    assert all(doubled[name] is other for name, other in others.items())


class Doubling:
    def start(self, batch):
        return map_tensors(batch, lambda tensor: 2 * tensor)

    def finish(self, batch):
        return batch


@pytest.mark.parametrize("start", [0, 3])
def test_a_loader_returns_moved_mini_batches_from_any_start(start):
    order = EpochOrder(18, 4, True, "training", Randomness(1))
    plain = MiniBatchLoader(make_dataset(), order)
    moved = MiniBatchLoader(make_dataset(), order, mover=Doubling())
    pairs = list(zip(plain.mini_batches(2, start), moved.mini_batches(2, start), strict=True))
    assert len(pairs) == 5 - start
    for expected, batch in pairs:
        assert torch.equal(2 * expected["x"], batch["x"])
        assert expected["name"] == batch["name"]


def test_only_some_types_of_devices_have_streams():
    assert [has_streams(torch.device(name)) for name in ("cpu", "mps", "meta", "cuda", "xpu")] == [False] * 3 + [
        True
    ] * 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is available")
def test_mini_batches_are_complete_on_a_gpu_that_computes():
    device = torch.device("cuda")
    order = EpochOrder(18, 4, True, "training", Randomness(1))
    plain = MiniBatchLoader(make_dataset(), order)
    moved = MiniBatchLoader(make_dataset(), order, pin_memory=True, mover=StreamMover(device))
    work = torch.randn(4000, 4000, device=device)
    for expected, batch in zip(plain, moved, strict=True):
        work = work @ work / 4000
        assert batch["x"].device.type == "cuda"
        assert torch.equal((batch["x"] + 0 * work[0, 0].nan_to_num()).cpu(), expected["x"])
