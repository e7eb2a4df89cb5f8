from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from torchbase.data import ClassesOrder, LengthOrder, RowsByMiniBatch, WeightedOrder
from torchbase.errors import DataError


def draw(order, seed=1, epoch=1):
    return order(epoch, torch.Generator("cpu").manual_seed(seed))


def plain(drawn):
    """The mini-batches as lists."""
    if isinstance(drawn, RowsByMiniBatch):
        return [part.tolist() for part in np.split(drawn.rows, np.cumsum(drawn.sizes)[:-1])]
    return drawn.tolist()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.1, 1.0, 1e9]), min_size=1, max_size=30), st.integers(1, 60))
def test_weighted_rows_are_those_of_plain_python(weights, count):
    if not any(weights):
        weights[0] = 1.0
    rows = draw(WeightedOrder(weights, count)).tolist()
    drawn = torch.rand(count, generator=torch.Generator("cpu").manual_seed(1), dtype=torch.float64).tolist()
    total, expected = sum(weights), []
    for number in drawn:
        seen = 0.0
        for row, weight in enumerate(weights):  # noqa: B007
            seen += weight
            if seen > number * total:
                break
        expected.append(row)
    assert rows == expected
    assert all(weights[row] > 0 for row in rows)


def test_weights_are_frequencies():
    counts = Counter(draw(WeightedOrder(torch.tensor([1, 0, 3]), 40_000)).tolist())
    assert counts.keys() == {0, 2}
    assert counts[2] / counts[0] == pytest.approx(3, rel=0.1)


def test_more_weights_than_torch_can_draw_from_are_possible():
    order = WeightedOrder(np.ones(2**24 + 1, dtype=np.float32), 5)
    assert len(draw(order)) == 5


@pytest.mark.parametrize("labels", [[0, 1, 1, 1, 1, 1], ["a", *"bbbbb"], [False, *[True] * 5]])
def test_balanced_classes_are_equally_frequent(labels):
    counts = Counter(labels[row] for row in draw(WeightedOrder.balancing(labels, 20_000)).tolist())
    assert counts[labels[0]] / counts[labels[1]] == pytest.approx(1, rel=0.1)


@settings(max_examples=40, deadline=None)
@given(st.data(), st.integers(1, 4), st.integers(1, 5), st.integers(1, 50))
def test_a_mini_batch_has_k_samples_of_each_of_p_classes(data, classes, samples, seed):
    counts = data.draw(st.lists(st.integers(1, 12), min_size=classes, max_size=8))
    labels = data.draw(st.permutations([label for label, count in enumerate(counts) for _ in range(count)]))
    drawn = plain(draw(ClassesOrder(labels, classes, samples), seed))
    assert len(drawn) == max(1, len(labels) // (classes * samples))
    for mini_batch in drawn:
        of_class = Counter(labels[row] for row in mini_batch)
        assert set(of_class.values()) == {samples}
        assert len(of_class) == classes
        for row, times in Counter(mini_batch).items():
            assert times <= -(-samples // counts[labels[row]])  # once, unless the class has too few


def test_the_samples_of_a_class_take_turns():
    labels = [0] * 12 + [1] * 100
    drawn = plain(draw(ClassesOrder(labels, classes=2, samples=4)))
    of_first = [row for mini_batch in drawn for row in mini_batch if labels[row] == 0]
    for begin in range(0, len(of_first) - 11, 12):
        assert sorted(of_first[begin : begin + 12]) == list(range(12))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=300), st.integers(1, 9), st.booleans())
def test_each_row_is_in_one_mini_batch_of_rows_of_similar_length(lengths, size, drop_last):
    drop_last = drop_last and len(lengths) >= size
    drawn = plain(draw(LengthOrder(lengths, size, drop_last=drop_last)))
    whole, remainder = divmod(len(lengths), size)
    assert sorted(map(len, drawn)) == sorted([size] * whole + ([remainder] if remainder and not drop_last else []))
    rows = [row for mini_batch in drawn for row in mini_batch]
    assert len(set(rows)) == len(rows)
    if not drop_last:
        assert sorted(rows) == list(range(len(lengths)))
    if len(lengths) <= size * LengthOrder.MINI_BATCHES_SORTED_TOGETHER:
        found = sorted(sorted(lengths[row] for row in mini_batch) for mini_batch in drawn)
        assert all(first[-1] <= second[0] for first, second in pairwise(found))


READY = [
    lambda column: WeightedOrder(column, 40),
    lambda column: ClassesOrder(column, 2, 3),
    lambda column: LengthOrder(column, 7),
]


@pytest.mark.parametrize("make", READY)
def test_the_generator_alone_decides_and_any_kind_of_column_will_do(make):
    numbers = [1 + row % 5 for row in range(200)]
    columns = [numbers, np.array(numbers), torch.tensor(numbers), Dataset.from_dict({"n": numbers})["n"]]
    drawn = [plain(draw(make(column), seed=5)) for column in columns]
    assert all(one == drawn[0] for one in drawn)
    assert plain(draw(make(numbers), seed=6)) != drawn[0]
    assert make(numbers).number_of_rows == 200


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WeightedOrder([1.0, -1.0]), "row 1 has -1.0"),
        (lambda: WeightedOrder([1.0, float("nan")]), "row 1 has nan"),
        (lambda: WeightedOrder([0, 0]), "all are 0"),
        (lambda: WeightedOrder([]), "got float64 of shape"),
        (lambda: WeightedOrder([[1.0]]), "of shape"),
        (lambda: WeightedOrder(["a"]), "a number for each row"),
        (lambda: WeightedOrder([1.0], 0), "rows_per_epoch, an integer of at least 1, but got 0"),
        (lambda: WeightedOrder([1.0], True), "rows_per_epoch, an integer of at least 1, but got True"),
        (lambda: WeightedOrder.balancing([0.5]), "needs labels"),
        (lambda: ClassesOrder([0, 1], 3, 1), "only 2"),
        (lambda: ClassesOrder([0, 1], 0, 1), "expects classes"),
        (lambda: ClassesOrder([0, 1], 1, 0), "expects samples"),
        (lambda: LengthOrder([1, 2], 0), "expects mini_batch_size"),
        (lambda: LengthOrder([1, 2], 3, drop_last=True), "drop_last leaves them out"),
        (lambda: LengthOrder([None, 2], 3), "a number for each row"),
    ],
)
def test_wrong_arguments_are_refused(make, message):
    with pytest.raises(DataError, match=message):
        make()
