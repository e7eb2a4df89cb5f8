"""Tensors in pieces: any number of processes saves them, and any rows are read."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchbase.checkpoints.saved_tensors import Piece, SavedTensor, in_memory, join, split
from torchbase.errors import RunDirectoryError
from torchbase.files.bitwise import different_values

DTYPES = [
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn),
    *(torch.complex64, torch.complex128, torch.int64, torch.int8, torch.uint8, torch.bool),
]


def tensor_of(shape, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    count = torch.Size(shape).numel()
    if dtype == torch.bool:
        return torch.randint(0, 2, shape, generator=generator).bool()
    if dtype.is_complex:
        return torch.randn(shape, dtype=dtype, generator=generator)
    return torch.randn(count, generator=generator).mul(50).reshape(shape).to(dtype)


def pieces_of(tensor, count):
    """The pieces as FSDP2 deals them out: the last processes have fewer rows, or none."""
    size = -(-len(tensor) // count)
    return [
        Piece(tensor[min(index * size, len(tensor)) : (index + 1) * size], min(index * size, len(tensor)), tensor.shape)
        for index in range(count)
    ]


@settings(max_examples=60)
@given(
    rows=st.integers(0, 9),
    others=st.sampled_from([(), (1,), (3,), (2, 2), (0,)]),
    dtype=st.sampled_from(DTYPES),
    count=st.integers(1, 12),
    data=st.data(),
)
def test_the_rows_of_any_pieces_are_those_of_the_tensor(rows, others, dtype, count, data):
    tensor = tensor_of((rows, *others), dtype, seed=rows)
    saved = SavedTensor(data.draw(st.permutations(pieces_of(tensor, count))))
    assert (saved.shape, saved.dtype) == (tensor.shape, dtype)
    assert different_values(saved.whole(), tensor) == []
    first = data.draw(st.integers(0, rows))
    end = data.draw(st.integers(first, rows))
    assert different_values(saved.rows(first, end), tensor[first:end]) == []


@pytest.mark.parametrize("tensor", [torch.tensor(2.5), torch.eye(3).to_sparse(), torch.arange(4)])
def test_a_tensor_that_is_not_sharded_may_have_any_shape_and_layout(tensor):
    saved = SavedTensor([Piece(tensor, 0, tensor.shape)], is_sharded=False)
    whole = saved.whole()
    assert different_values(whole, tensor) == []
    assert whole is not tensor


def test_what_is_read_does_not_share_memory_with_the_files():
    tensor = torch.arange(4.0)
    saved = SavedTensor(pieces_of(tensor, 1))
    saved.whole().zero_()
    saved.rows(0, 4).zero_()
    assert tensor.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("choose", "reason"),
    [
        (lambda pieces: pieces[:2], "row 4 of 6 is not there exactly once"),
        (lambda pieces: pieces[1:], "row 0 of 6 is not there exactly once"),
        (lambda pieces: [pieces[0], pieces[2]], "row 2 of 6 is not there exactly once"),
        (lambda pieces: [*pieces, pieces[1]], "row 2 of 6 is not there exactly once"),
        (lambda pieces: [*pieces[:2], Piece(torch.zeros(2, 4), 4, (6, 4))], "don't fit each other"),
        (lambda pieces: [*pieces[:2], Piece(torch.zeros(2, 3).int(), 4, (6, 3))], "don't fit each other"),
        (lambda pieces: [*pieces[:2], Piece(torch.zeros(2, 3), 4, (7, 3))], "don't fit each other"),
    ],
)
def test_pieces_that_do_not_make_up_the_tensor_are_refused(choose, reason):
    pieces = pieces_of(torch.zeros(6, 3), 3)
    with pytest.raises(RunDirectoryError, match=reason):
        SavedTensor(choose(pieces))


def split_among(state, sharded, count):
    """What each of several processes saves of a state, of which the tensors with some identities are sharded."""
    by_id = {id(one): pieces_of(one, count) for one in sharded}
    return [
        split(state, lambda tensor, index=index: by_id[id(tensor)][index] if id(tensor) in by_id else tensor)
        for index in range(count)
    ]


def test_a_nested_state_is_the_same_after_split_and_join():
    weight, momentum = torch.randn(5, 2), torch.randn(5)
    state = {"network": {"weight": weight, "buffer": torch.ones(2)}, "training": [3, ("x", {0: momentum})]}
    shares = split_among(state, [weight, momentum], 3)
    parts = shares[0][0]
    assert parts["network"]["weight"] is None
    assert parts["training"] == [3, ("x", {0: None})]
    assert [len(pieces["network", "weight"].rows) for _, pieces in shares] == [2, 2, 1]
    joined = join(parts, {f"file {index}": pieces for index, (_, pieces) in enumerate(shares)})
    assert joined["network"]["weight"].shape == (5, 2)
    assert different_values(in_memory(joined), state) == []


def test_a_missing_piece_is_named_with_its_tensor_and_files():
    weight = torch.randn(5, 2)
    shares = split_among({"network": {"weight": weight}}, [weight], 3)
    files = {"a": shares[0][1], "c": shares[2][1]}
    with pytest.raises(RunDirectoryError, match=r"a, c don't hold the tensor network\.weight: row 2 of 5"):
        join(shares[0][0], files)


def test_a_tensor_without_a_place_is_an_error():
    weight = torch.randn(2)
    ((parts, pieces),) = split_among({"network": {"weight": weight}}, [weight], 1)
    del parts["network"]["weight"]
    with pytest.raises(RunDirectoryError, match=r"a tensor network\.weight, which the other files don't name"):
        join(parts, {"a": pieces})
