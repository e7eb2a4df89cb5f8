import typing
from collections.abc import Hashable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchbase.data.typed_dict import TypedDict, TypedDictIterable
from torchbase.errors import DataError

BOTH = [TypedDict, TypedDictIterable]
values_of = {int: st.integers(), str: st.text(), float: st.floats(), bool: st.booleans(), type(None): st.none()}


class UncheckableProtocol(typing.Protocol):
    name: str


@settings(max_examples=60)
@given(st.sampled_from(list(values_of)), st.sampled_from(list(values_of)), st.data())
def test_a_value_is_accepted_only_if_it_is_of_the_expected_type(expected, actual, data):
    check = TypedDict({"key": expected})
    value = data.draw(values_of[actual])
    if actual is expected:
        check.check_type("key", value)
    else:
        with pytest.raises(TypeError, match=rf"data_dict\['key'\] has to be {expected.__name__}, but"):
            check.check_type("key", value)


@pytest.mark.parametrize("union", [int | str, typing.Union[int, str]])  # noqa: UP007
def test_a_union_accepts_each_of_its_types_and_no_other(union):
    check = TypedDict({"key": union})
    check.check_type("key", 1)
    check.check_type("key", "one")
    with pytest.raises(TypeError, match=r"has to be int \| str, but got 1\.5 of type float"):
        check.check_type("key", 1.5)


def test_a_bool_is_accepted_for_bool_and_wider_types_but_not_for_int():
    for expected in (bool, int | bool, object, Hashable):
        TypedDict({"key": expected}).check_type("key", True)
    for expected in (int, int | str):
        with pytest.raises(TypeError, match="got True of type bool"):
            TypedDict({"key": expected}).check_type("key", True)


def test_none_is_accepted_if_the_union_contains_it():
    TypedDict({"key": int | None}).check_type("key", None)
    with pytest.raises(TypeError, match="None of type NoneType"):
        TypedDict({"key": int}).check_type("key", None)


def test_a_type_outside_the_builtins_is_named_with_its_module():
    with pytest.raises(TypeError, match=r"has to be torch.Tensor, but .* of type numpy.ndarray"):
        TypedDict({"image": torch.Tensor}).check_type("image", np.zeros(2))


@pytest.mark.parametrize("checker", BOTH)
def test_the_checked_dictionary_is_returned(checker):
    data = {"label": [1], "image": [torch.zeros(2)]}
    types = {"image": list, "label": list} if checker is TypedDict else {"image": torch.Tensor, "label": int}
    assert checker(types)(data) is data


@pytest.mark.parametrize("checker", BOTH)
def test_missing_and_unknown_keys_are_listed_with_the_nearest_name(checker):
    check = checker({"image": object, "label": object, "weight": object})
    with pytest.raises(KeyError) as caught:
        check({"imgae": [1], "label": [1], 3: [1]})
    message = caught.value.args[0]
    assert "missing: 'image', 'weight'" in message
    assert "unknown: 'imgae' (did you mean 'image'?), 3 (available: 'image', 'label', 'weight')" in message


@pytest.mark.parametrize("checker", BOTH)
def test_the_message_lists_only_the_problems_of_the_keys(checker):
    check = checker({"image": object})
    with pytest.raises(KeyError) as missing:
        check({})
    assert "unknown" not in missing.value.args[0]
    with pytest.raises(KeyError) as unknown:
        check({"image": [1], "label": [1]})
    assert "missing" not in unknown.value.args[0]


@pytest.mark.parametrize("checker", BOTH)
def test_check_type_names_the_nearest_key_for_an_unknown_key(checker):
    with pytest.raises(KeyError, match="'lable' \\(did you mean 'label'\\?\\)"):
        checker({"label": int}).check_type("lable", [1])


def test_calling_checks_each_value():
    with pytest.raises(TypeError, match=r"data_dict\['label'\] has to be int, but got 'cat' of type str"):
        TypedDict({"image": list, "label": int})({"image": [], "label": "cat"})


@pytest.mark.parametrize("checker", BOTH)
@pytest.mark.parametrize("data", [None, [("image", 1)], 3])
def test_data_that_is_not_a_dictionary_is_refused(checker, data):
    with pytest.raises(TypeError, match="data_dict has to be a dictionary"):
        checker({"image": int})(data)


@pytest.mark.parametrize("checker", BOTH)
@pytest.mark.parametrize(
    ("type_dict", "message"),
    [
        (None, "but got NoneType"),
        ([("a", int)], "but got list"),
        ({1: int}, "keys of type_dict have to be str, but got 1 of type int"),
        ({"a": "int"}, r"type_dict\['a'\] .* but got 'int'"),
        ({"a": 3}, "but got 3"),
        ({"a": None}, r"type\(None\) for None"),
        ({"a": (int, str)}, r"int \| str"),
        ({"a": list[int]}, r"but got list\[int\]"),
        ({"a": int | list[int]}, r"but got list\[int\]"),
        ({"a": typing.Any}, r"typing\.Any"),
        ({"a": UncheckableProtocol}, "isinstance can't check"),
    ],
)
def test_invalid_types_are_refused_on_construction(checker, type_dict, message):
    with pytest.raises(TypeError, match=message):
        checker(type_dict)


@pytest.mark.parametrize("checker", BOTH)
def test_type_dict_is_a_copy_of_the_argument(checker):
    argument = {"a": int | str}
    check = checker(argument)
    argument["b"] = int
    assert check.type_dict == {"a": int | str}


@settings(max_examples=60)
@given(st.lists(st.integers(), max_size=8), st.integers(0, 8))
def test_the_first_invalid_item_is_named_with_its_key_and_index(numbers, position):
    index = min(position, len(numbers))
    check = TypedDictIterable({"label": int})
    assert check({"label": numbers}) == {"label": numbers}
    with pytest.raises(
        TypeError, match=rf"^Item {index} of data_dict\['label'\] has to be int, but got 'x' of type str"
    ):
        check({"label": [*numbers[:index], "x", *numbers[index:], "y"]})


@pytest.mark.parametrize("values", [[1, 2], (1, 2), range(2), {1, 2}, {1: "a", 2: "b"}])
def test_all_iterables_that_can_be_read_again_are_accepted(values):
    TypedDictIterable({"label": int}).check_type("label", values)


def test_rows_of_tensors_and_arrays_are_items():
    check = TypedDictIterable({"image": torch.Tensor, "value": np.integer})
    check({"image": torch.zeros(2, 3), "value": np.array([1, 2])})
    with pytest.raises(TypeError, match=r"Item 0 of .*torch.Tensor, but .*numpy"):
        check({"image": np.zeros((2, 3)), "value": np.array([1, 2])})


def test_different_lengths_are_listed_with_their_keys():
    with pytest.raises(DataError, match="'image': 2, 'label': 3"):
        TypedDictIterable({"image": int, "label": int})({"image": [1, 2], "label": [1, 2, 3]})


def test_the_items_of_an_iterable_without_a_length_are_counted():
    class Countdown:
        def __iter__(self):
            yield from (2, 1, 0)

    check = TypedDictIterable({"left": int, "label": int})
    check({"left": Countdown(), "label": [1, 2, 3]})
    with pytest.raises(DataError, match="'left': 3, 'label': 2"):
        check({"left": Countdown(), "label": [1, 2]})


@pytest.mark.parametrize("one_shot", [(n for n in (1, 2)), iter([1, 2]), map(int, "12")])
def test_iterators_are_refused_and_not_consumed(one_shot):
    with pytest.raises(TypeError, match="can be read only once"):
        TypedDictIterable({"label": int})({"label": one_shot})
    assert list(one_shot) == [1, 2]


@pytest.mark.parametrize(("item_type", "text"), [(str, "cat"), (str, ""), (int, b"cat")])
def test_strings_are_refused_as_iterables(item_type, text):
    with pytest.raises(TypeError, match=r"data_dict\['text'\] has to be an iterable of items, but got a string"):
        TypedDictIterable({"text": item_type})({"text": text})


@pytest.mark.parametrize("value", [3, None, torch.tensor(3)])
def test_values_that_are_not_iterable_are_refused(value):
    with pytest.raises(TypeError, match=r"data_dict\['label'\] has to be an iterable, but"):
        TypedDictIterable({"label": int}).check_type("label", value)


def test_a_bool_among_the_items_is_not_accepted_for_int():
    with pytest.raises(TypeError, match=r"Item 1 of .*True of type bool"):
        TypedDictIterable({"label": int})({"label": [1, True]})


def test_data_is_none_until_a_dictionary_passes_the_check_by_call_or_assignment():
    check = TypedDictIterable({"label": int})
    assert check.data is None
    called, assigned = {"label": [1]}, {"label": [2]}
    check(called)
    assert check.data is called
    check.data = assigned
    assert check.data is assigned
    assert TypedDictIterable({"label": int}).data is None


@pytest.mark.parametrize(
    ("invalid", "error"),
    [
        (None, TypeError),
        ({}, KeyError),
        ({"label": ["cat"], "image": [1]}, TypeError),
        ({"label": [1, 2], "image": [1]}, DataError),
    ],
)
def test_assigning_invalid_data_is_refused_and_does_not_change_data(invalid, error):
    check = TypedDictIterable({"label": int, "image": int})
    previous = check({"label": [1], "image": [1]})
    with pytest.raises(error):
        check.data = invalid
    assert check.data is previous
