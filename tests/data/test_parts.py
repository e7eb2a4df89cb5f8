from collections import namedtuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchbase.data.parts import average_values, count_samples, join_outputs, samples_of_parts, split_mini_batch

Pair = namedtuple("Pair", ["x", "y"])


def columns_of(samples):
    return {
        "x": torch.arange(samples * 2).reshape(samples, 2).float(),
        "array": np.arange(samples),
        "name": [str(number) for number in range(samples)],
        "nested": {"y": torch.arange(samples)},
    }


@settings(max_examples=50)
@given(st.integers(1, 20), st.data())
def test_joined_parts_equal_the_whole_mini_batch(samples, data):
    number = data.draw(st.integers(1, samples))
    whole = columns_of(samples)
    parts = split_mini_batch(whole, number)
    sizes = [count_samples(part) for part in parts]
    assert len(parts) == number
    assert max(sizes) - min(sizes) <= 1
    assert sorted(sizes, reverse=True) == sizes
    joined = join_outputs(parts, sizes)
    assert torch.equal(joined["x"], whole["x"])
    assert joined["array"].tolist() == whole["array"].tolist()
    assert joined["name"] == whole["name"]
    assert torch.equal(torch.cat([part["nested"]["y"] for part in parts]), whole["nested"]["y"])


@settings(max_examples=50)
@given(st.integers(1, 20), st.integers(1, 30), st.data())
def test_the_needed_parts_are_those_of_the_whole_that_have_samples(samples, number, data):
    first, last = sorted(data.draw(st.tuples(*[st.integers(0, number)] * 2)))
    whole = split_mini_batch(torch.arange(samples), number)
    needed = split_mini_batch(torch.arange(samples), number, range(first, last))
    assert [part.tolist() for part in needed] == [part.tolist() for part in whole[first:last]]


def test_the_outputs_of_a_single_part_are_not_copied():
    outputs = {"output": torch.zeros(4), "share": 0.1}
    assert join_outputs([outputs], [4])["output"] is outputs["output"]
    assert join_outputs([outputs], [3]) == outputs


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 40), st.integers(1, 50))
def test_each_sample_belongs_to_one_part(samples, number):
    parts = samples_of_parts(samples, number)
    assert [position for part in parts for position in part] == list(range(samples))
    assert len(parts) == min(samples, number)
    sizes = [len(part) for part in parts]
    assert sizes == sorted(sizes, reverse=True)
    assert not parts or (sizes[-1] > 0 and sizes[0] - sizes[-1] <= 1)


def test_values_are_averaged_over_the_parts_that_logged_them():
    values = average_values([{"a": torch.tensor(1.0), "b": 4}, {"a": 3.0}, {"a": 0.0, "c": 2.5}], [2, 1, 1])
    assert {name: float(value) for name, value in values.items()} == {"a": 1.25, "b": 4.0, "c": 2.5}


@pytest.mark.parametrize(
    ("mini_batch", "samples"),
    [
        (torch.zeros(3, 2), 3),
        ((torch.zeros(2, 5), torch.zeros(2)), 2),
        ([torch.zeros(4, 5), torch.zeros(4)], 4),
        ({"scale": torch.tensor(1.0), "x": np.zeros((5, 1))}, 5),
        ({"text": ["a", "b", "c"]}, 3),
        ({"inner": (torch.zeros(6),)}, 6),
        ({"number": 1}, 0),
        (object(), 0),
    ],
)
def test_samples_are_counted_for_any_nesting(mini_batch, samples):
    assert count_samples(mini_batch) == samples


def test_each_part_of_a_pair_is_a_pair():
    x, y = torch.tensor([[1.0], [2.0]]), torch.tensor([3, 4])
    for pair in ((x, y), [x, y], Pair(x, y)):
        first, second = split_mini_batch(pair, 2)
        assert type(first) is type(pair)
        assert [tensor.tolist() for tensor in first] == [[[1.0]], [3]]
        assert [tensor.tolist() for tensor in second] == [[[2.0]], [4]]


def test_values_without_samples_are_in_each_part():
    matrix = torch.eye(3)
    for part in split_mini_batch({"x": torch.zeros(4), "matrix": matrix, "rate": 0.5, "label": "all"}, 2):
        assert part["matrix"] is matrix
        assert (part["rate"], part["label"]) == (0.5, "all")


def test_numbers_are_averaged_and_other_values_are_those_of_the_last_part():
    parts = [
        {"loss": torch.tensor(1.0), "share": 0.0, "note": "a"},
        {"loss": torch.tensor(5.0), "share": 1.0, "note": "b"},
    ]
    joined = join_outputs(parts, [3, 1])
    assert joined == {"loss": torch.tensor(2.0), "share": 0.25, "note": "b"}
