import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchbase.data.splitting import split_iterables, split_to_train_valid_test
from torchbase.errors import DataError

weights = st.lists(st.integers(1, 100), min_size=1, max_size=6)


def portions_from(weight_list: list[int]) -> tuple[float, ...]:
    return tuple(weight / sum(weight_list) for weight in weight_list)


def enough_items(portions: tuple[float, ...]) -> int:
    return math.ceil(1 / min(portions)) + 1


@settings(max_examples=60)
@given(weights, st.integers(0, 500), st.booleans())
def test_sizes_sum_to_the_number_of_items_and_differ_from_the_exact_size_by_less_than_one(weight_list, extra, shuffle):
    portions = portions_from(weight_list)
    count = enough_items(portions) + extra
    parts = split_iterables(range(count), portions, shuffle=shuffle)
    assert len(parts) == len(portions)
    assert sorted(item for part in parts for item in part) == list(range(count))
    for part, portion in zip(parts, portions, strict=True):
        assert abs(len(part) - portion * count) < 1


@settings(max_examples=40)
@given(weights, st.integers(0, 100))
def test_without_shuffling_the_parts_have_the_original_order(weight_list, extra):
    portions = portions_from(weight_list)
    items = list(range(enough_items(portions) + extra))
    parts = split_iterables(items, portions, shuffle=False)
    assert [item for part in parts for item in part] == items


@settings(max_examples=40)
@given(weights, st.integers(0, 100), st.booleans())
def test_columns_of_a_dictionary_are_split_jointly(weight_list, extra, shuffle):
    portions = portions_from(weight_list)
    count = enough_items(portions) + extra
    columns = {"number": range(count), "square": (number**2 for number in range(count))}
    for part in split_iterables(columns, portions, shuffle=shuffle):
        assert list(part) == ["number", "square"]
        assert part["square"] == [number**2 for number in part["number"]]


@pytest.mark.parametrize(
    ("count", "portions", "sizes"),
    [
        (10, (0.7, 0.15, 0.15), [7, 2, 1]),
        (20, (0.7, 0.15, 0.15), [14, 3, 3]),
        (100, (0.29, 0.71), [29, 71]),
        (15, (0.7, 0.1, 0.2), [11, 1, 3]),
        (8, (1 / 3, 1 / 3, 1 / 3), [3, 3, 2]),
        (7, (1,), [7]),
    ],
)
def test_sizes_follow_the_largest_remainder_method_and_ties_favor_the_earlier_part(count, portions, sizes):
    assert [len(part) for part in split_iterables(range(count), portions)] == sizes


def test_portions_that_sum_to_one_within_the_tolerance_use_all_items():
    parts = split_iterables(range(3_000_000), (0.5, 0.4999992), shuffle=False)
    assert sum(map(len, parts)) == 3_000_000


def test_the_global_seed_determines_the_permutation():
    def draw(seed):
        torch.manual_seed(seed)
        return split_iterables(range(50), [0.5, 0.5])

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    torch.manual_seed(1)
    order = torch.randperm(50).tolist()
    assert draw(1) == (order[:25], order[25:])


def test_the_permutation_is_drawn_on_the_cpu_for_any_default_device():
    torch.manual_seed(1)
    expected = split_iterables(range(10), (0.5, 0.5))
    torch.manual_seed(1)
    with torch.device("meta"):
        assert split_iterables(range(10), (0.5, 0.5)) == expected


def test_no_random_numbers_are_drawn_without_shuffling_or_for_a_refused_split():
    before = torch.get_rng_state()
    split_iterables(range(10), (0.5, 0.5), shuffle=False)
    with pytest.raises(DataError):
        split_iterables(range(1), (0.5, 0.5))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "items", [[3, 1, 2, 0], (n for n in (3, 1, 2, 0)), torch.tensor([3, 1, 2, 0]), np.array([3, 1, 2, 0])]
)
def test_any_iterable_is_split_into_lists(items):
    first, second = split_iterables(items, (0.5, 0.5), shuffle=False)
    assert isinstance(first, list)
    assert (first, second) == ([3, 1], [2, 0])


@pytest.mark.parametrize(
    ("portions", "message"),
    [
        ((), "portions is empty"),
        ((0.5, 0.6), r"have to sum to 1, but the sum of \(0.5, 0.6\) is 1.1"),
        ((70, 30), "divide each portion by the sum"),
        ((0.5, 0.499998), "have to sum to 1"),
        ((1.5, -0.5), r"portions\[1\] has to be .* got -0.5 \(float\)"),
        ((1.0, 0.0), r"portions\[1\] has to be .* got 0.0"),
        ((math.nan, 1.0), r"portions\[0\] has to be .* got nan"),
        ((math.inf,), r"portions\[0\] has to be .* got inf"),
        (("0.5", 0.5), r"portions\[0\] has to be .* got '0.5' \(str\)"),
        ((True,), r"portions\[0\] has to be .* got True \(bool\)"),
        ((None, 1), r"portions\[0\] has to be .* got None"),
        (0.5, "portions has to be a tuple or list of numbers, .* but got float"),
        ({0.5: 1}, "but got dict"),
    ],
)
def test_invalid_portions_are_refused_with_a_description(portions, message):
    with pytest.raises(DataError, match=message):
        split_iterables(range(100), portions)


def test_invalid_portions_do_not_consume_a_generator():
    items = iter(range(3))
    with pytest.raises(DataError):
        split_iterables(items, (0.5,))
    assert list(items) == [0, 1, 2]


def test_unequal_lengths_are_listed_with_their_keys():
    with pytest.raises(DataError, match=r"input_ .*'image': 3, 'label': 2"):
        split_iterables({"image": [1, 2, 3], "label": [1, 2]}, (0.5, 0.5))


@pytest.mark.parametrize(("input_", "count"), [([1, 2], 2), ([], 0), ({"a": [1, 2]}, 2), ({"a": [], "b": []}, 0)])
def test_a_part_that_would_be_empty_is_refused_with_the_number_of_items(input_, count):
    with pytest.raises(DataError, match=f"would be empty: for {count} items"):
        split_iterables(input_, (0.7, 0.15, 0.15))


def test_a_dictionary_without_keys_is_refused():
    with pytest.raises(DataError, match="without keys"):
        split_iterables({}, (1.0,))


@pytest.mark.parametrize("input_", ["abcdef", b"abcdef", {"text": "abcdef"}])
def test_strings_are_refused_as_iterables(input_):
    with pytest.raises(TypeError, match="but got a string"):
        split_iterables(input_, (0.5, 0.5))


@pytest.mark.parametrize(
    ("input_", "message"),
    [
        (5, "input_ has to be an iterable, but got 5 of type int"),
        (None, "NoneType"),
        (torch.tensor(1), "input_ .*torch.Tensor"),
        ({"label": 5}, r"input_\['label'\] has to be an iterable"),
    ],
)
def test_values_that_are_not_iterable_are_refused(input_, message):
    with pytest.raises(TypeError, match=message):
        split_iterables(input_, (0.5, 0.5))


def test_train_valid_and_test_parts_are_shuffled_and_have_default_portions():
    torch.manual_seed(3)
    train, valid, test = split_to_train_valid_test(range(100))
    assert [len(train), len(valid), len(test)] == [70, 15, 15]
    assert sorted(train + valid + test) == list(range(100))
    assert train != sorted(train)


def test_train_valid_and_test_parts_of_a_dictionary_are_dictionaries():
    train, valid, test = split_to_train_valid_test({"a": range(10), "b": range(10)}, [0.6, 0.2, 0.2])
    assert [len(part["a"]) for part in (train, valid, test)] == [6, 2, 2]
    assert train["a"] == train["b"]


@pytest.mark.parametrize("portions", [(0.5, 0.5), (0.25,) * 4, ()])
def test_train_valid_and_test_need_exactly_three_portions(portions):
    with pytest.raises(DataError, match=f"portions has to contain 3 numbers, .* but got {len(portions)}"):
        split_to_train_valid_test(range(100), portions)


def test_a_single_number_as_portions_is_refused_for_train_valid_and_test():
    with pytest.raises(DataError, match="but got float"):
        split_to_train_valid_test(range(100), 0.7)
