from collections import Counter, OrderedDict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchbase.files.host_copies import HostCopies


def are_same(first, second):
    """Whether two nested structures are equal, types and bits included."""
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and first.dtype == second.dtype and torch.equal(first, second)
    if type(first) is not type(second):
        return False
    if isinstance(first, dict):
        return list(first) == list(second) and all(are_same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(are_same, first, second))
    return first == second


def test_copies_do_not_change_with_the_originals():
    original = {"weight": torch.arange(4.0), "state": {0: [torch.zeros(2), (torch.ones(1), 3)]}}
    copied = HostCopies().of(original)
    assert are_same(copied, original)
    for tensor in (original["weight"], original["state"][0][0], original["state"][0][1][0]):
        tensor.fill_(7.0)
    original["state"][0].append("later")
    original["state"][1] = "later"
    assert are_same(copied, {"weight": torch.arange(4.0), "state": {0: [torch.zeros(2), (torch.ones(1), 3)]}})


def test_the_memory_of_a_copy_is_reused():
    copies, value = HostCopies(), {"a": torch.zeros(3), "b": [torch.zeros(2, 2)]}
    first = copies.of(value)
    value["a"].fill_(1.0)
    second = copies.of({"a": value["a"], "b": [torch.ones(2, 2)]})
    assert second["a"].data_ptr() == first["a"].data_ptr()
    assert second["b"][0].data_ptr() == first["b"][0].data_ptr()
    assert first["a"].tolist() == [1.0, 1.0, 1.0]  # the previous copy is overwritten


@pytest.mark.parametrize(
    "other", [torch.ones(4), torch.ones(3, 1), torch.ones(3, dtype=torch.float64), torch.ones(3, dtype=torch.int32)]
)
def test_memory_of_another_shape_or_type_is_not_reused(other):
    copies = HostCopies()
    first = copies.of([torch.zeros(3)])
    second = copies.of([other])
    assert are_same(first, [torch.zeros(3)])
    assert are_same(second, [other])


def test_memory_belongs_to_its_place_in_the_nest():
    copies = HostCopies()
    first = copies.of({"a": torch.zeros(2), "b": torch.zeros(2)})
    second = copies.of({"b": torch.ones(2), "c": torch.full((2,), 2.0)})
    assert first["a"].tolist() == [0.0, 0.0]
    assert are_same(second, {"b": torch.ones(2), "c": torch.full((2,), 2.0)})
    assert second["b"].data_ptr() == first["b"].data_ptr()
    third = copies.of({"a": torch.ones(2)})  # the memory of "a" was freed in between
    assert first["a"].tolist() == [0.0, 0.0]
    assert third["a"].tolist() == [1.0, 1.0]


def test_tensors_of_the_same_shape_have_separate_memory():
    copies = HostCopies()
    value = {"a": [torch.full((2,), 1.0), torch.full((2,), 2.0)], "b": {0: torch.full((2,), 3.0)}, 0: torch.zeros(2)}
    for _ in range(2):
        assert are_same(copies.of(value), value)


def test_two_instances_share_no_memory():
    value = torch.zeros(2)
    first = HostCopies().of(value)
    value.fill_(1.0)
    HostCopies().of(value)
    assert first.tolist() == [0.0, 0.0]


def test_the_state_of_a_module_keeps_its_metadata():
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    state = module.state_dict()
    copied = HostCopies().of(state)
    assert type(copied) is OrderedDict
    assert copied._metadata == state._metadata
    assert copied._metadata["1"] == {"version": 2}
    assert are_same(dict(copied), dict(state))
    other = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    other.load_state_dict(copied)
    assert torch.equal(other[0].weight, module[0].weight)


def test_another_optimizer_loads_the_copied_state():
    def make():
        module = torch.nn.Linear(2, 1)
        return module, torch.optim.Adam(module.parameters(), lr=0.1)

    module, optimizer = make()
    module(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    copied = HostCopies().of(optimizer.state_dict())
    assert are_same(copied, optimizer.state_dict())
    _, other = make()
    other.load_state_dict(copied)
    assert are_same(other.state_dict(), optimizer.state_dict())


TENSORS = {
    "transposed": torch.arange(6.0).reshape(2, 3).t(),
    "every second": torch.arange(8)[::2],
    "expanded": torch.arange(2.0).expand(3, 2),
    "channels last": torch.arange(24.0).reshape(1, 2, 3, 4).to(memory_format=torch.channels_last),
    "conjugate": torch.tensor([1 + 2j]).conj(),
    "of bfloat16": torch.tensor([1.0, 1 / 3]).bfloat16(),
    "of float16": torch.tensor([1.0, 1 / 3]).half(),
    "of booleans": torch.tensor([True, False]),
    "of bytes": torch.tensor([0, 255], dtype=torch.uint8),
    "of shape ()": torch.tensor(3),
    "empty": torch.zeros(0, 4),
    "a parameter": torch.nn.Parameter(torch.ones(2)),
    "with a graph": torch.ones(2, requires_grad=True) * 2,
}


@pytest.mark.parametrize("tensor", TENSORS.values(), ids=TENSORS)
def test_any_tensor_is_copied_to_a_contiguous_tensor_without_a_graph(tensor):
    copies = HostCopies()
    for _ in range(2):  # into new memory, then into reused memory
        copied = copies.of([tensor])[0]
        assert type(copied) is torch.Tensor
        assert copied.dtype == tensor.dtype
        assert torch.equal(copied, tensor)
        assert copied.is_contiguous()
        assert not copied.requires_grad


def test_only_the_selected_part_of_a_large_tensor_is_copied():
    copied = HostCopies().of(torch.arange(1000.0)[10:13])
    assert copied.tolist() == [10.0, 11.0, 12.0]
    assert copied.untyped_storage().nbytes() == 3 * 4


def test_sparse_tensors_stay_sparse():
    copies = HostCopies()
    original = torch.tensor([1.0, 0.0, 2.0, 0.0]).to_sparse()
    copied = copies.of({"gradient": original})["gradient"]
    original.values().fill_(9.0)
    assert copied.layout is torch.sparse_coo
    assert copied.to_dense().tolist() == [1.0, 0.0, 2.0, 0.0]
    again = copies.of({"gradient": original})["gradient"]
    assert again.to_dense().tolist() == [9.0, 0.0, 9.0, 0.0]


def test_later_items_of_a_set_are_not_in_its_copy():
    names, content = {"a", "b"}, bytearray(b"ab")
    copied = HostCopies().of({"names": names, "content": content})
    names.add("c")
    content.extend(b"c")
    assert copied == {"names": {"a", "b"}, "content": bytearray(b"ab")}


def test_plain_values_are_not_copied():
    values = [None, True, 3, 2.5, "text", b"bytes", frozenset({1}), torch.float32, torch.device("cpu")]
    copied = HostCopies().of(values)
    assert all(one is other for one, other in zip(copied, values, strict=True))


shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)
types = st.sampled_from([torch.float32, torch.bfloat16, torch.int64, torch.bool])
tensors = st.builds(
    lambda shape, dtype, seed: (
        torch.randint(0, 9, shape, generator=torch.Generator().manual_seed(seed)).to(dtype).transpose(0, -1)
    ),
    shapes,
    types,
    st.integers(0, 99),
)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3) | st.binary()
keys = st.text(max_size=2) | st.integers(0, 3)
nests = st.recursive(
    tensors | scalars | st.sets(st.integers(0, 9)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(keys, inner, max_size=3)
        | st.dictionaries(keys, inner, max_size=3).map(OrderedDict)
    ),
    max_leaves=12,
)


@settings(max_examples=80)
@given(st.lists(nests, min_size=1, max_size=3))
def test_a_copy_equals_its_original_whatever_was_copied_before(values):
    copies = HostCopies()
    for value in [*values, *values]:
        assert are_same(copies.of(value), value)


def test_a_counter_is_copied_and_not_added_to():
    counter = Counter({3: 1, 7: 2})  # e.g. the milestones of a schedule
    copied = HostCopies().of({"milestones": counter})["milestones"]
    assert type(copied) is Counter
    assert copied == counter
