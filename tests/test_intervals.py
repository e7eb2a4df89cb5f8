import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchbase.errors import IntervalError
from torchbase.intervals import Interval


@pytest.mark.parametrize(
    ("text", "interval"),
    [
        ("100it", Interval(100, "it")),
        ("2ep", Interval(2, "ep")),
        ("60s", Interval(60, "s")),
        ("1.5s", Interval(1.5, "s")),
        (" 3 it ", Interval(3, "it")),
    ],
)
def test_parses_an_interval(text, interval):
    assert Interval.parse(text) == interval


@given(st.integers(1, 10**9), st.sampled_from(["it", "ep", "s"]))
def test_its_text_is_parsed_to_the_same_interval(count, unit):
    interval = Interval(count, unit)
    assert Interval.parse(str(interval)) == interval
    assert Interval.parse(interval) == interval


@pytest.mark.parametrize("given", ["", "100", "it", "-3it", "3 epochs", "1e3it", "٣it", 100, None, True])
def test_refuses_invalid_text(given):
    with pytest.raises(IntervalError, match="such as '100it'"):
        Interval.parse(given)


@pytest.mark.parametrize("given", ["0it", "0s"])
def test_refuses_an_interval_of_length_0(given):
    with pytest.raises(IntervalError, match="longer than 0"):
        Interval.parse(given)


def test_refuses_a_fraction_of_an_iteration():
    with pytest.raises(IntervalError, match=r"has to be an integer, but got 1\.5it"):
        Interval.parse("1.5it")


@pytest.mark.parametrize(("count", "unit"), [(True, "it"), ("3", "it"), (float("inf"), "s"), (float("nan"), "s")])
def test_refuses_an_invalid_count(count, unit):
    with pytest.raises(IntervalError):
        Interval(count, unit)


def test_refuses_an_unknown_unit():
    with pytest.raises(IntervalError, match="'it', 'ep' or 's', but got 'min'"):
        Interval(3, "min")


def test_refuses_a_unit_that_is_not_allowed():
    with pytest.raises(IntervalError, match=r"60s isn't possible here\."):
        Interval.parse("60s", units=("it", "ep"))


@given(st.integers(1, 50), st.integers(0, 500))
def test_is_due_after_multiples_of_the_count(count, done):
    is_multiple = done > 0 and done % count == 0
    assert Interval(count, "it").is_due_after(iterations=done) == is_multiple
    assert Interval(count, "ep").is_due_after(epochs=done) == is_multiple


def test_is_not_due_after_other_units():
    assert not Interval(1, "it").is_due_after(epochs=1)
    assert not Interval(1, "ep").is_due_after(iterations=1)
    assert not Interval(1, "s").is_due_after(iterations=1, epochs=1)
