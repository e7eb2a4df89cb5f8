from hypothesis import given
from hypothesis import strategies as st

from torchbase.randomness.seeds import SeedSeries, derive_seed, draw_seed


@given(st.integers(0, 2**63 - 1), st.lists(st.one_of(st.text(), st.integers()), max_size=4))
def test_derived_seeds_are_valid_and_repeatable(seed, purpose):
    derived = derive_seed(seed, *purpose)
    assert 0 <= derived < 2**63
    assert derived == derive_seed(seed, *purpose)


def test_derived_seeds_differ_if_any_argument_differs():
    purposes = [("a",), ("a", 1), ("a", "1"), ("a1",), (1, "a"), ("a", 1, 1), ("a", 11)]
    assert len({derive_seed(0, *purpose) for purpose in purposes} | {derive_seed(1, "a")}) == len(purposes) + 1


def test_derived_seeds_are_the_same_in_all_versions():
    assert derive_seed(0, "order", "training", 1) == 8312517496763115110


def test_drawn_seeds_differ():
    assert draw_seed() != draw_seed()


@given(st.integers(0, 2**63 - 1), st.lists(st.text() | st.integers(), max_size=3), st.integers(0, 2**40))
def test_a_series_equals_the_derived_seeds(seed, purpose, number):
    assert SeedSeries(seed, *purpose).at(number) == derive_seed(seed, *purpose, number)


@given(st.lists(st.integers(0, 300), max_size=20))
def test_a_series_is_the_same_in_any_order(numbers):
    series = SeedSeries(7, "iteration")
    assert [series.at(number) for number in numbers] == [derive_seed(7, "iteration", number) for number in numbers]
