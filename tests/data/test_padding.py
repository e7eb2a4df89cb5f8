import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchbase.data import pad
from torchbase.errors import DataError


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 9), max_size=5), min_size=1, max_size=6), st.integers(-3, 3), st.booleans())
def test_columns_are_those_of_plain_python(lists, value, is_tensor):
    samples = [{"x": torch.tensor(one, dtype=torch.int64) if is_tensor else one, "n": n} for n, one in enumerate(lists)]
    batch = pad(samples, "x", value=value)
    longest = max(map(len, lists))
    assert batch["x"].tolist() == [one + [value] * (longest - len(one)) for one in lists]
    assert batch["mask"].tolist() == [[True] * len(one) + [False] * (longest - len(one)) for one in lists]
    assert batch["n"].tolist() == list(range(len(lists)))
    assert list(batch) == ["x", "n", "mask"]


def test_several_columns_have_values_of_their_own_and_one_mask():
    samples = [{"x": [1, 2], "y": np.ones((2, 3), "float32")}, {"x": [3], "y": np.ones((1, 3), "float32")}]
    batch = pad(samples, "x", "y", value={"x": -1, "y": 0.5}, mask="is_there")
    assert batch["x"].tolist() == [[1, 2], [3, -1]]
    assert batch["y"].shape == (2, 2, 3)
    assert batch["y"][1].tolist() == [[1.0] * 3, [0.5] * 3]
    assert batch["is_there"].tolist() == [[True, True], [True, False]]


def test_padded_columns_are_tensors_also_if_their_lengths_are_equal_or_zero():
    assert pad([{"x": [1]}, {"x": [2]}], "x", mask=None).keys() == {"x"}
    assert pad([{"x": []}, {"x": [1, 2]}], "x")["x"].tolist() == [[0, 0], [1, 2]]
    assert pad([{"x": []}, {"x": []}], "x")["x"].shape == (2, 0)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((), {}, "expects the names of the columns"),
        (("z",), {}, "can't find the columns 'z' in a sample, which has 'x', 'y', 's'"),
        (("x",), {"mask": "y"}, "can't add the mask 'y'"),
        (("x",), {"value": {"y": 1}}, "expects a value for each of"),
        (("s",), {}, "it is str in sample 1"),
        (("n",), {}, "it is int in sample 1"),
        (("x", "y"), {}, "the lengths 1 and 2"),
        (("m",), {}, "differ in more than their first dimension"),
        (("y",), {}, r"The column \['x'\] can't be stacked.*torchbase.data.pad"),
    ],
)
def test_what_cannot_be_padded_is_refused(arguments, options, message):
    samples = [
        {"x": [1], "y": [1, 2], "s": "a", "n": 1},
        {"x": [1, 2], "y": [1], "s": "b", "n": 1},
    ]
    if arguments == ("m",):
        samples = [{"m": torch.ones(1, 2)}, {"m": torch.ones(1, 3)}]
    with pytest.raises(DataError, match=message):
        pad(samples, *arguments, **options)
    with pytest.raises(DataError, match="in a sample, which is a tuple"):
        pad([(1, 2)], "x")
