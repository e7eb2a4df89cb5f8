import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchbase.randomness.numpy_stream import NumpyStream
from torchbase.randomness.streams import isolate_rng

DRAWS = [
    lambda: None,
    np.random.rand,
    np.random.randn,  # of two normal numbers, numpy keeps the second
    lambda: np.random.randn(2),
    lambda: np.random.rand(312),  # as many words as the state has
    lambda: np.random.rand(1000),
    lambda: np.random.seed(3),
    lambda: np.random.set_state(np.random.RandomState(5).get_state()),
]


def same(first, second):
    return np.array_equal(first["state"].pop("key"), second["state"].pop("key")) and first == second


@pytest.fixture(autouse=True)
def stream_as_before():
    state = np.random.get_state()
    yield
    np.random.set_state(state)


@given(
    seed=st.integers(0, 2**32 - 1),
    before=st.lists(st.sampled_from(DRAWS), max_size=3),
    within=st.lists(st.sampled_from(DRAWS), max_size=3),
)
def test_the_stream_is_restored_exactly_whoever_has_drawn_before_or_within(seed, before, within):
    stream = NumpyStream()
    stream.seed(seed)
    for draw in before:
        draw()
    expected = np.random.get_state(legacy=False)
    restore = stream.capture()
    for draw in within:
        draw()
    restore()
    assert same(np.random.get_state(legacy=False), expected)


def test_a_stream_that_somebody_else_seeded_is_restored_too():
    stream = NumpyStream()
    np.random.seed(8)
    np.random.randn()
    expected = np.random.get_state(legacy=False)
    restore = stream.capture()
    stream.seed(9)
    restore()
    assert same(np.random.get_state(legacy=False), expected)


def test_a_stream_that_was_only_seeded_is_captured_without_its_numbers(monkeypatch):
    stream = NumpyStream()
    stream.seed(8)
    monkeypatch.setattr(np.random, "get_state", None)
    restore = stream.capture()
    np.random.rand()
    restore()
    assert np.random.rand() == np.random.RandomState(8).rand()


def test_another_bit_generator_has_no_memory_that_is_known():
    former = np.random.get_bit_generator()
    stream = NumpyStream()
    stream.seed(8)
    try:
        np.random.set_bit_generator(np.random.PCG64(4))
        expected = np.random.RandomState(np.random.PCG64(4)).rand(3)
        restore = stream.capture()
        np.random.rand(7)
        restore()
        assert np.array_equal(np.random.rand(3), expected)
        with isolate_rng():
            np.random.rand()
    finally:
        np.random.set_bit_generator(former)
