import struct
from collections import OrderedDict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchbase.files.hashes import UnhashableError, hash_of

NAN, OTHER_NAN = struct.unpack("<2d", struct.pack("<2Q", 0x7FF8000000000000, 0x7FF8000000000001))
PLAIN = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary())
NESTED = st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


def from_bits(*bits, dtype=torch.float32):
    return torch.tensor(bits, dtype=torch.int32).view(dtype)


DIFFERENT = {
    "a bit": (torch.tensor([1.0]), torch.tensor([1.0]).nextafter(torch.tensor([2.0]))),
    "the sign of zero": (torch.tensor([0.0]), torch.tensor([-0.0])),
    "the payload of NaN": (from_bits(0x7FC00000), from_bits(0x7FC00001)),
    "the shape": (torch.zeros(2, 3), torch.zeros(3, 2)),
    "a dimension of one": (torch.zeros(()), torch.zeros(1)),
    "the type": (torch.zeros(2), torch.zeros(2, dtype=torch.int32)),
    "the layout": (torch.eye(2), torch.eye(2).to_sparse()),
    "a coordinate": (torch.eye(2).to_sparse(), torch.eye(2).flip(0).to_sparse()),
    "the sign of a zero number": (0.0, -0.0),
    "the payload of a number that is NaN": (NAN, OTHER_NAN),
    "a number and a truth": (1, True),
    "a number and a text": (1, "1"),
    "an integer and a float": (1, 1.0),
    "a text and bytes": ("a", b"a"),
    "the order of a list": ([1, 2], [2, 1]),
    "the nesting": ([1, [2, 3]], [1, 2, [3]]),
    "a key": ({"a": 1}, {"b": 1}),
    "a value": ({"a": 1, "b": 2}, {"a": 2, "b": 1}),
    "two neighbours": (["ab", "c"], ["a", "bc"]),
    "complex parts": (1 + 2j, 2 + 1j),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_each_difference_changes_the_hash(name):
    first, second = DIFFERENT[name]
    assert hash_of(first) != hash_of(second)
    assert hash_of({"state": [first]}) != hash_of({"state": [second]})


SAME = {
    "memory": (torch.arange(6.0).reshape(2, 3), torch.arange(6.0).reshape(2, 3).t().contiguous().t()),
    "a channel order": (torch.ones(2, 3, 4, 4), torch.ones(2, 3, 4, 4).to(memory_format=torch.channels_last)),
    "a part of other memory": (torch.arange(9.0)[3:5], torch.tensor([3.0, 4.0])),
    "a gradient": (torch.ones(2, requires_grad=True), torch.ones(2)),
    "an unsorted sparse tensor": (
        torch.sparse_coo_tensor([[1, 0]], [2.0, 1.0], (2,), check_invariants=True),
        torch.sparse_coo_tensor([[0, 1]], [1.0, 2.0], (2,), check_invariants=True),
    ),
    "the order of keys": ({"a": 1, "b": 2}, OrderedDict(b=2, a=1)),
    "a tuple": ((1, 2), [1, 2]),
    "a set": ({1, 2, 3}, frozenset({3, 2, 1})),
}


@pytest.mark.parametrize("name", SAME)
def test_equal_bits_have_one_hash(name):
    first, second = SAME[name]
    assert hash_of(first) == hash_of(second)


@settings(max_examples=30)
@given(NESTED)
def test_a_hash_is_that_of_a_copy(value):
    copied = torch.utils._pytree.tree_map(lambda one: one, value)
    assert hash_of(value) == hash_of(copied)
    assert len(hash_of(value)) == 16


DTYPES = [torch.bool, torch.uint8, torch.int64, torch.bfloat16, torch.float16, torch.float64, torch.complex64]


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float8_e4m3fn], ids=str)
def test_tensors_of_each_type_are_hashed(dtype):
    ones, zeros = (torch.full((2, 2), value).to(dtype) for value in (1.0, 0.0))
    assert len({hash_of(ones), hash_of(zeros), hash_of(ones[:0])}) == 3


def test_a_hash_does_not_change_with_the_version():
    # Fingerprints are compared over years and machines.
    value = {"weight": torch.tensor([[1.0, -0.0], [float("inf"), 2.0]]), "step": 3, "lr": 0.1, "betas": (0.9, 0.999)}
    assert hash_of(value).hex() == "d1acf8d9d7b7d8d78279400982f0e497"


def test_an_object_is_refused():
    with pytest.raises(UnhashableError, match="a value of type object can't be hashed"):
        hash_of({"a": [object()]})
