import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchbase.files.bitwise import different_values

leaves = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats(width=32)
    | st.text(max_size=2)
    | st.lists(st.floats(width=32), max_size=3).map(torch.tensor)
)
nests = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3)
)


@settings(max_examples=50)
@given(nests)
def test_a_copy_does_not_differ(nest):
    assert different_values(nest, copy.deepcopy(nest)) == []


def test_each_difference_is_named_by_its_path():
    first = {"network": {"weight": torch.zeros(3)}, "run": [1, 2.5], "only here": 1}
    second = {"network": {"weight": torch.tensor([0.0, 0.0, 1e-45])}, "run": [1, 2.0], "only there": 1}
    assert different_values(first, second) == ["network.weight", "run.1", "only here", "only there"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (0.0, False),
        (1, 1.0),
        ([1], [1, 2]),
        ([1], {0: 1}),
        (torch.zeros(2), torch.zeros(1, 2)),
        (torch.zeros(2), torch.zeros(2, dtype=torch.float64)),
        (torch.tensor([0.0]), torch.tensor([-0.0])),
        (torch.eye(2).to_sparse(), torch.eye(2)),
        (torch.eye(2).to_sparse(), (2 * torch.eye(2)).to_sparse()),
        (torch.tensor([True]), torch.tensor([False])),
        (torch.tensor(1j), torch.tensor(1 + 1j)),
    ],
)
def test_values_of_different_type_shape_or_bits_differ(first, second):
    assert different_values({"x": first}, {"x": second}) == ["x"]
    assert different_values({"x": first}, {"x": copy.deepcopy(first)}) == []
