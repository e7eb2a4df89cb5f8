import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchbase.randomness import (
    Randomness,
    SeedSeries,
    capture_streams,
    derive_seed,
    draw_seed,
    isolate_rng,
    pack_streams,
    restore_streams,
    seed_streams,
    unpack_streams,
)


def draw_from_all():
    return random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(()).item()


def test_all_streams_draw_the_same_numbers_after_the_same_seed():
    seed_streams(3)
    first = draw_from_all()
    seed_streams(3)
    assert draw_from_all() == first
    seed_streams(4)
    assert all(a != b for a, b in zip(draw_from_all(), first, strict=True))


def test_captured_states_restore_all_streams_also_from_a_file(tmp_path):
    draw_from_all()
    torch.save(pack_streams(capture_streams()), tmp_path / "states.pth")
    expected = [draw_from_all() for _ in range(3)]
    seed_streams(99)
    restore_streams(unpack_streams(torch.load(tmp_path / "states.pth", weights_only=True)))
    assert [draw_from_all() for _ in range(3)] == expected


def test_captured_states_do_not_change_when_the_streams_advance():
    states = capture_streams()
    expected = draw_from_all()
    np.random.rand(1000)  # more than numpy's block of 624 words, after which numpy rewrites its state
    restore_streams(states)
    assert draw_from_all() == expected


def test_isolate_rng_restores_the_streams_even_after_an_error():
    seed_streams(5)
    expected = draw_from_all()
    seed_streams(5)
    with pytest.raises(ZeroDivisionError), isolate_rng():
        _ = draw_from_all()[0] / 0
    assert draw_from_all() == expected


def test_seeding_for_a_purpose_restores_the_streams_afterwards():
    seed_streams(5)
    expected = draw_from_all()
    seed_streams(5)
    randomness = Randomness(7)
    with randomness.seeded("building", "network"):
        first = draw_from_all()
    assert draw_from_all() == expected
    with randomness.seeded("building", "network"):
        assert draw_from_all() == first
    with randomness.seeded("building", "datasets"):
        assert draw_from_all() != first


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
