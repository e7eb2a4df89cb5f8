import copy
import enum
import functools
import json
from collections import OrderedDict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchbase.files.json_values import (
    NOT_GIVEN,
    Difference,
    child_path,
    described,
    differences,
    json_errors,
    json_form,
)

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)
dictionaries = st.dictionaries(st.text(max_size=4), values, max_size=3).map(json_form)


class Colour(enum.StrEnum):
    RED = "red"


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no text for this")


@settings(max_examples=50)
@given(values)
def test_a_json_value_has_no_errors_and_is_read_back_in_its_json_form(value: Any) -> None:
    assert json_errors(value, "data") == {}
    assert json.loads(json.dumps(value)) == json_form(value)


@pytest.mark.parametrize(
    "value",
    [
        torch.ones(2),
        np.float64(1.0),
        np.int64(1),
        np.str_("a"),
        {1, 2},
        frozenset(),
        b"bytes",
        len,
        lambda: None,
        Colour.RED,
        Path("a"),
        1j,
        Fraction(1, 2),
        OrderedDict(),
        object(),
        float("nan"),
        float("inf"),
        float("-inf"),
        "\ud800",
    ],
)
def test_a_value_that_json_cannot_hold_is_found_with_its_path(value: Any) -> None:
    nested = {"fine": [1], "transform": [{"fn": value}]}
    assert list(json_errors(nested, "data")) == ["data.transform[0].fn"]


def test_every_error_is_found() -> None:
    nested = {"a": ({1}, [len]), "b.c": {"d": float("nan")}, "e": "fine"}
    assert set(json_errors(nested, "data")) == {"data.a[0]", "data.a[1][0]", "data['b.c'].d"}


@pytest.mark.parametrize("key", [1, None, True, 1.5, (1, 2), Colour.RED])
def test_a_key_that_is_not_text_is_an_error(key: Any) -> None:
    (error,) = json_errors({"inner": {key: 1}}, "data").values()
    assert error == f"expected a key that is a str, got {described(key)}"


def test_a_key_that_utf8_cannot_encode_is_an_error() -> None:
    assert list(json_errors({"\udcff": 1}, "data")) == [r"data['\udcff']"]


def test_a_value_that_contains_itself_is_an_error() -> None:
    endless: list[Any] = [1]
    endless.append({"again": endless})
    (error,) = json_errors(endless, "data").items()
    assert error == ("data[1].again", "expected a value of finite depth, got one that contains itself")


def test_a_value_in_two_places_is_no_error() -> None:
    shared = [1, 2]
    assert json_errors({"a": shared, "b": [shared, shared]}, "data") == {}


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (torch.ones(1), "pass its .tolist()"),
        (np.float32(1), "pass its .tolist()"),
        ({1}, "pass a list"),
        (len, "pass its name"),
    ],
)
def test_an_error_says_what_to_pass_instead(value: Any, hint: str) -> None:
    assert json_errors(value, "data")["data"].endswith(f"; {hint}")


def test_the_json_form_shares_nothing_with_its_value() -> None:
    value = {"a": [[1]], "b": ({"c": 2},)}
    form = json_form(value)
    value["a"][0].append(5)
    value["b"][0]["c"] = 6
    assert form == {"a": [[1]], "b": [{"c": 2}]}


@pytest.mark.parametrize(
    ("path", "key", "expected"),
    [
        ("", "data", "data"),
        ("data", "lr-decay_2", "data.lr-decay_2"),
        ("data", "a.b", "data['a.b']"),
        ("data", "", "data['']"),
        ("data", "line\nline", r"data['line\nline']"),
        ("", "a b", "['a b']"),
        ("data", 3, "data[3]"),
    ],
)
def test_the_path_of_a_key_is_not_ambiguous(path: str, key: object, expected: str) -> None:
    assert child_path(path, key) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (-0.1, "-0.1 (float)"),
        ("10", "'10' (str)"),
        (None, "None (NoneType)"),
        (torch.tensor(1.0), "tensor(1.) (torch.Tensor)"),
        (np.float64(1), "np.float64(1.0) (numpy.float64)"),
    ],
)
def test_a_value_is_described_with_its_type(value: object, expected: str) -> None:
    assert described(value) == expected


@pytest.mark.parametrize("value", ["x" * 10_000, torch.ones(30, 30), list(range(1000)), {"a": "b\n" * 500}, 10**300])
def test_a_long_value_is_described_on_one_short_line(value: object) -> None:
    assert len(described(value)) < 150
    assert "\n" not in described(value)


def test_a_value_that_cannot_be_printed_is_described_by_its_type() -> None:
    assert described(Unprintable()).endswith("Unprintable)")


def test_differences_are_sorted_by_path() -> None:
    old = {"session": {"num_epochs": 10, "seed": 1}, "data": {"sizes": [1, 2], "names": ["a"]}, "network": {}}
    new = {"session": {"num_epochs": 20, "seed": 1}, "data": {"sizes": [1, 3], "names": ["a", "b"]}, "extra": None}
    assert [str(difference) for difference in differences(old, new)] == [
        "data.names: ['a'] -> ['a', 'b']",
        "data.sizes[1]: 2 -> 3",
        "extra: not given -> None",
        "network: {} -> not given",
        "session.num_epochs: 10 -> 20",
    ]


def test_a_difference_has_both_values() -> None:
    assert differences({"a": {"b": "x"}}, {"a": {}}) == [Difference("a.b", "x", NOT_GIVEN)]


@pytest.mark.parametrize(("old", "new"), [(1, True), (False, 0), (None, 0), ("1", 1), ([], {}), ({"a": 1}, [1])])
def test_values_of_another_kind_differ(old: Any, new: Any) -> None:
    assert differences({"a": old}, {"a": new}) == [Difference("a", old, new)]


def test_a_whole_number_is_equal_as_a_float() -> None:
    assert differences({"a": [1]}, {"a": [1.0]}) == []


@settings(max_examples=50)
@given(dictionaries)
def test_a_dictionary_does_not_differ_from_its_copy(dictionary: dict[str, Any]) -> None:
    assert differences(dictionary, copy.deepcopy(dictionary)) == []


@settings(max_examples=100)
@given(dictionaries, dictionaries)
def test_differences_are_symmetric_and_empty_only_for_equal_dictionaries(
    old: dict[str, Any], new: dict[str, Any]
) -> None:
    forward, backward = differences(old, new), differences(new, old)
    assert [Difference(found.path, found.new, found.old) for found in forward] == backward
    assert [found.path for found in forward] == sorted({found.path for found in forward})
    if old != new:
        assert forward


@settings(max_examples=50)
@given(dictionaries, scalars)
def test_a_change_deep_inside_is_one_difference(dictionary: dict[str, Any], value: Any) -> None:
    def nest(inner: Any) -> dict[str, Any]:
        return functools.reduce(lambda item, key: {**dictionary, key: [item]}, "abc", inner)

    assert differences(nest(value), nest([value])) == [Difference("c[0].b[0].a[0]", value, [value])]
