"""Two processes send each other their tensors in one step, and add them in the order of their numbers."""

import math

import pytest
import several
import torch

from torchbase.distributed.joining import join
from torchbase.distributed.swap import swap

TYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.complex64]


def swapped(index):
    join()
    tensors = [torch.arange(3).to(dtype) + index for dtype in TYPES]
    return list(swap([*tensors, torch.empty(0), torch.full((2, 2), float(index))], None))


def test_each_has_the_tensors_of_the_other():
    both = several.values_of(2, swapped)
    for index, received in enumerate(both):
        *typed, empty, square = received
        for dtype, tensor in zip(TYPES, typed, strict=True):
            assert torch.equal(tensor, torch.arange(3).to(dtype) + (1 - index))
        assert empty.numel() == 0
        assert torch.equal(square, torch.full((2, 2), float(1 - index)))


def bits_of(number):
    return torch.tensor([number], dtype=torch.int32).view(torch.float32)


def summed(index, with_value):
    processes, own = join(), bits_of([0x7FC00001, 0x7FC00002][index])
    if with_value:
        values, (total,) = processes.gather_and_reduce(index, [own], [own])
        assert values == [0, 1]
    else:
        (total,) = processes.reduce([own], [own])
    return total.view(torch.int32).item(), own.view(torch.int32).item()


@pytest.mark.parametrize("with_value", [False, True])
def test_the_sum_has_the_same_bits_on_both_even_where_an_order_shows(with_value):
    # A sum of two NaNs has the bits of one of them, so it shows which one was on the left.
    (first, own), (second, other_own) = several.values_of(2, summed, with_value)
    assert first == second
    assert math.isnan(bits_of(first).item())
    assert (own, other_own) == (0x7FC00001, 0x7FC00002)  # what was sent stays
