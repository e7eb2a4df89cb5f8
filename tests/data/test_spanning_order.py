from itertools import islice

import pytest
from data.test_order import order_of
from hypothesis import given, settings
from hypothesis import strategies as st

from torchbase.data.parts import PartsToRead
from torchbase.data.spanning_order import SpanningOrder

sizes, counts = st.integers(1, 60), st.integers(1, 12)


def endless_passes(order):
    number = 1
    while True:
        yield from order.mini_batches(number)
        number += 1


@settings(max_examples=60)
@given(sizes, st.integers(1, 20), st.booleans(), counts)
def test_epochs_continue_the_passes_of_a_dataset_one_after_the_other(number_of_rows, size, shuffle, per_epoch):
    passes = order_of(number_of_rows, size, shuffle)
    order = SpanningOrder(passes, per_epoch)
    epochs = [list(order.mini_batches(epoch)) for epoch in range(1, 6)]
    rows = [mini_batch.rows for epoch in epochs for mini_batch in epoch]
    assert rows == [mini_batch.rows for mini_batch in islice(endless_passes(passes), 5 * per_epoch)]
    places = [(mini_batch.epoch, mini_batch.position) for epoch in epochs for mini_batch in epoch]
    assert places == [(epoch, position) for epoch in range(1, 6) for position in range(per_epoch)]


@settings(max_examples=60)
@given(sizes, st.integers(1, 20), counts, st.integers(1, 5), st.data())
def test_an_epoch_can_start_at_any_mini_batch_in_any_order_of_calls(number_of_rows, size, per_epoch, epoch, data):
    def order():
        return SpanningOrder(order_of(number_of_rows, size), per_epoch)

    used, start = order(), data.draw(st.integers(0, per_epoch))
    list(used.mini_batches(data.draw(st.integers(1, 5))))
    assert list(used.mini_batches(epoch, start)) == list(order().mini_batches(epoch))[start:]


def test_only_the_needed_rows_of_large_mini_batches_are_computed():
    passes, needed = order_of(20_000, 5000), PartsToRead(10, range(3, 5)).samples_of
    found = list(SpanningOrder(passes, 6).mini_batches(2, 0, needed))
    assert [(len(one.rows), one.size, one.first) for one in found] == [(1000, 5000, 1500)] * 6


@pytest.mark.parametrize(("per_epoch", "shortest"), [(2, None), (3, 2), (4, 2)])
def test_the_shortest_mini_batch_is_that_of_the_first_epoch(per_epoch, shortest):
    order = SpanningOrder(order_of(10, 4), per_epoch)
    assert order.shortest() == shortest
    assert [order.count_mini_batches(epoch) for epoch in (1, 2)] == [per_epoch, per_epoch]


def test_each_mini_batch_of_a_run_has_a_reading_seed_of_its_own():
    order = SpanningOrder(order_of(10, 4), 2)
    seeds = [order.reading_seeds.of(one) for epoch in range(1, 5) for one in order.mini_batches(epoch)]
    assert len(set(seeds)) == 8
