import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchbase.distributed.blocks import share_out
from torchbase.distributed.tree_sum import TreeSum


def gradients_of(parts):
    generator = torch.Generator().manual_seed(parts)
    return [[torch.randn(5, generator=generator), torch.randn(2, 3, generator=generator)] for _ in range(parts)]


def summed(parts):
    sums = TreeSum()
    for part in parts:
        sums.add([tensor.clone() for tensor in part])
    return sums.total()


def by_recursion(parts):
    """The tree, drawn from the top: the left half is the largest power of two below the number of parts."""
    if len(parts) == 1:
        return parts[0]
    half = 1
    while 2 * half < len(parts):
        half *= 2
    return [one + other for one, other in zip(by_recursion(parts[:half]), by_recursion(parts[half:]), strict=True)]


def equal(first, second):
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize("parts", range(1, 18))
def test_parts_are_added_in_a_binary_tree(parts):
    gradients = gradients_of(parts)
    assert equal(summed(gradients), by_recursion(gradients))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 3), st.integers(1, 33))
def test_the_sums_of_aligned_blocks_have_the_bits_of_a_single_sum(level, parts):
    gradients, size = gradients_of(parts), 2**level
    blocks = [summed(gradients[first : first + size]) for first in range(0, parts, size)]
    assert equal(summed(blocks), summed(gradients))


def with_places(gradients):
    """The tree of all places, from the top; an empty list where no part has samples."""
    if len(gradients) == 1:
        return gradients[0]
    half = 2 ** ((len(gradients) - 1).bit_length() - 1)
    left, right = with_places(gradients[:half]), with_places(gradients[half:])
    return [one + other for one, other in zip(left, right, strict=True)] if left and right else left or right


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 17), st.data())
def test_parts_without_samples_keep_the_places_of_the_others(parts, data):
    empty = data.draw(st.sets(st.integers(0, parts - 1)))
    gradients = [[] if part in empty else one for part, one in enumerate(gradients_of(parts))]
    assert len(summed(gradients)) == (0 if len(empty) == parts else 2)
    assert equal(summed(gradients), with_places(gradients))
    total = TreeSum()
    for block in share_out(parts, data.draw(st.integers(1, parts))):
        total.add(summed(gradients[block.parts.start : block.parts.stop]), block.level)
    assert equal(total.total(), with_places(gradients))
    while gradients and not gradients[-1]:  # the last ones may be left out
        gradients.pop()
    assert equal(summed(gradients), with_places(gradients or [[]]))


def test_the_order_of_additions_matters_for_these_numbers():
    gradients = gradients_of(8)
    one_by_one = gradients[0]
    for part in gradients[1:]:
        one_by_one = [total + tensor for total, tensor in zip(one_by_one, part, strict=True)]
    assert not equal(summed(gradients), one_by_one)


def test_a_part_without_a_gradient_adds_nothing():
    one = torch.ones(2)
    sums = TreeSum()
    for part in ([None, None], [one.clone(), None], [one.clone(), None]):
        sums.add(part)
    total = sums.total()
    assert torch.equal(total[0], torch.full((2,), 2.0))
    assert total[1] is None
    assert sums.total() == []


@pytest.mark.parametrize("kinds", [("sparse", "sparse"), ("sparse", "dense"), ("dense", "sparse")])
def test_sparse_gradients_are_added_to_sparse_and_to_dense_ones(kinds):
    sums = TreeSum()
    for kind in kinds:
        dense = torch.tensor([[0.0, 1.0], [0.0, 2.0]])
        sums.add([dense.to_sparse() if kind == "sparse" else dense])
    (total,) = sums.total()
    assert torch.equal(total.to_dense() if total.is_sparse else total, torch.tensor([[0.0, 2.0], [0.0, 4.0]]))
