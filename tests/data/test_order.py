import pickle
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchbase.data.order import ROWS_PERMUTED_AS_A_WHOLE, EpochOrder, MiniBatchIndices
from torchbase.randomness.run_randomness import Randomness

sizes = st.integers(1, 400)


def order_of(number_of_rows, mini_batch_size=32, shuffle=True, phase="training", seed=1):
    return EpochOrder(number_of_rows, mini_batch_size, shuffle, phase, Randomness(seed))


def rows_in(mini_batches):
    return [row for mini_batch in mini_batches for row in mini_batch.rows]


@settings(max_examples=80)
@given(sizes, sizes, st.booleans(), st.integers(1, 1000))
def test_an_epoch_contains_each_sample_once_in_mini_batches_of_equal_size(number_of_rows, size, shuffle, epoch):
    order = order_of(number_of_rows, size, shuffle)
    mini_batches = list(order.mini_batches(epoch))
    assert sorted(rows_in(mini_batches)) == list(range(number_of_rows))
    assert [len(mini_batch.rows) for mini_batch in mini_batches[:-1]] == [size] * (len(order) - 1)
    assert 1 <= len(mini_batches[-1].rows) <= size
    positions = [(mini_batch.epoch, mini_batch.position) for mini_batch in mini_batches]
    assert positions == [(epoch, position) for position in range(len(order))]


@settings(max_examples=80)
@given(sizes, st.integers(1, 40), st.booleans(), st.data())
def test_an_epoch_with_a_later_start_equals_the_rest_of_the_epoch(number_of_rows, size, shuffle, data):
    order = order_of(number_of_rows, size, shuffle)
    start = data.draw(st.integers(0, len(order)))
    assert list(order.mini_batches(3, start)) == list(order.mini_batches(3))[start:]


@pytest.mark.parametrize("number_of_rows", [20_000, ROWS_PERMUTED_AS_A_WHOLE + 5])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("start", [1, 127, 128, 129, 600])
def test_an_epoch_can_start_anywhere_in_the_parts_that_are_computed_together(number_of_rows, shuffle, start):
    order = order_of(number_of_rows, 32, shuffle)
    whole, rest = order.mini_batches(2), order.mini_batches(2, start)
    for _ in range(start):
        next(whole)
    assert [next(rest) for _ in range(20)] == [next(whole) for _ in range(20)]


def test_a_dataset_that_is_permuted_in_parts_is_read_once():
    rows = rows_in(order_of(ROWS_PERMUTED_AS_A_WHOLE + 5, 5000).mini_batches(1))
    assert len(rows) == len(set(rows)) == ROWS_PERMUTED_AS_A_WHOLE + 5
    assert (min(rows), max(rows)) == (0, ROWS_PERMUTED_AS_A_WHOLE + 4)


@pytest.mark.parametrize("number_of_rows", [100, ROWS_PERMUTED_AS_A_WHOLE + 5])
def test_each_epoch_phase_and_seed_has_a_different_order(number_of_rows):
    first = [
        next(order_of(number_of_rows, phase=phase, seed=seed).mini_batches(epoch)).rows
        for phase in ("training", "validation-valid")
        for seed in (0, 1, 2)
        for epoch in (1, 2, 3)
    ]
    assert len({tuple(rows) for rows in first}) == len(first)
    assert next(order_of(number_of_rows).mini_batches(2)).rows == first[4]


def test_without_shuffling_each_epoch_has_the_order_of_the_dataset():
    order = order_of(10, 4, shuffle=False)
    for epoch in (1, 2):
        assert [mini_batch.rows for mini_batch in order.mini_batches(epoch)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_a_shuffled_order_contains_no_long_unshuffled_run():
    rows = rows_in(order_of(1000).mini_batches(1))
    assert sum(row == position for position, row in enumerate(rows)) < 10
    assert sum(row + 1 == follower for row, follower in pairwise(rows)) < 10


def test_a_dataset_without_rows_has_no_mini_batches():
    assert len(order_of(0)) == 0
    assert list(order_of(0).mini_batches(1)) == []


def test_the_seed_of_a_mini_batch_depends_on_phase_epoch_position_part_and_seed():
    indices = [MiniBatchIndices([0], epoch, position, 1) for epoch in (1, 2) for position in (0, 1)]
    orders = [order_of(10), order_of(10, seed=2), order_of(10, phase="validation-valid")]
    seeds = [order.reading_seeds.of(mini_batch, part) for order in orders for mini_batch in indices for part in (0, 1)]
    assert len(set(seeds)) == len(seeds)
    assert order_of(99, 3).reading_seeds.of(MiniBatchIndices([5, 6], 1, 0, 2)) == seeds[0]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("start", [0, 3_000_000])
@pytest.mark.parametrize("number_of_rows", [10**8, 10**15])  # a permutation of the second number fits into no memory
def test_the_first_mini_batch_of_a_huge_dataset_needs_little_memory(number_of_rows, shuffle, start):
    order = order_of(number_of_rows, shuffle=shuffle)
    tracemalloc.start()
    rows = next(order.mini_batches(4, start)).rows
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(set(rows)) == 32
    assert 0 <= min(rows) <= max(rows) < number_of_rows
    assert peak < 2_000_000


def test_an_order_can_be_pickled():
    order = order_of(50, 8)
    assert pickle.loads(pickle.dumps(order)) == order
    assert list(pickle.loads(pickle.dumps(order)).mini_batches(1)) == list(order.mini_batches(1))
