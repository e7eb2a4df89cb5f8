import pickle
import random

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from torchbase.data import RowsByMiniBatch
from torchbase.data.own_order import OwnOrder
from torchbase.data.own_order_loader import OwnOrderLoader
from torchbase.data.parts import PartsToRead, SplitMiniBatch
from torchbase.errors import DataError
from torchbase.randomness.run_randomness import Randomness
from torchbase.randomness.streams import capture_streams

ROWS = 20

# The tests don't depend on the number of cores.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")


def order_of(function, mini_batch_size=4, *, rows=ROWS, seed=1, drop_last=False):
    return OwnOrder(function, rows, mini_batch_size, "training", Randomness(seed), drop_last=drop_last)


def rows_of(order, epoch=1, start=0):
    return [one.rows for one in order.mini_batches(epoch, start)]


def returning(value):
    return order_of(lambda epoch, generator: value)


def growing(epoch, generator):
    """A curriculum: more rows in each epoch, with repetitions."""
    return torch.randint(0, ROWS, (3 * epoch + 2,), generator=generator)


def dataset():
    return Dataset.from_dict({"row": list(range(ROWS))})


def loader_of(function, **options):
    return OwnOrderLoader(dataset(), order_of(function), **options)


def read(loader, epoch=1, start=0):
    return [mini_batch["row"].tolist() for mini_batch in loader.mini_batches(epoch, start)]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=40), st.integers(1, 9), st.booleans(), st.data())
def test_rows_are_read_exactly_as_ordered(rows, size, drop_last, data):
    drop_last = drop_last and len(rows) >= size
    expected = [rows[begin : begin + size] for begin in range(0, len(rows), size)]
    expected = [one for one in expected if len(one) == size or not drop_last]
    start = data.draw(st.integers(0, len(expected)))
    for form in (list, np.array, torch.tensor):
        order = order_of(lambda epoch, generator, form=form: form(rows), size, drop_last=drop_last)
        assert rows_of(order) == expected
        assert rows_of(order, 1, start) == expected[start:]
        assert order.count_mini_batches(1) == len(expected)
        shorter = len(expected) > 1 and len(expected[-1]) < size
        assert order.shortest() == (len(expected) - 1 if shorter else None)


mini_batches = st.lists(st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=6), min_size=1, max_size=9)


@settings(max_examples=50, deadline=None)
@given(mini_batches, st.data())
def test_mini_batches_are_read_exactly_as_ordered(expected, data):
    start = data.draw(st.integers(0, len(expected)))
    flat = RowsByMiniBatch(np.concatenate(expected), [len(one) for one in expected])
    for value in (expected, [torch.tensor(one) for one in expected], tuple(map(np.array, expected)), flat):
        order = returning(value)
        assert rows_of(order) == expected
        assert rows_of(order, 1, start) == expected[start:]
        sizes = [len(one) for one in expected]
        assert order.shortest() == (sizes.index(min(sizes)) if min(sizes) < sizes[0] else None)


def test_a_tensor_of_two_dimensions_has_a_mini_batch_in_each_row():
    assert rows_of(returning(torch.arange(6).reshape(2, 3))) == [[0, 1, 2], [3, 4, 5]]
    assert rows_of(returning(range(5))) == [[0, 1, 2, 3], [4]]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("parts", [PartsToRead(), PartsToRead(3, range(3))])
def test_a_loader_reads_the_order_with_workers_and_parts(num_workers, parts):
    loader = loader_of(growing, num_workers=num_workers, parts=parts)
    for epoch in (1, 3, 2):
        expected = rows_of(order_of(growing), epoch)
        found = list(loader.mini_batches(epoch))
        if parts.number > 1:
            assert all(isinstance(one, SplitMiniBatch) for one in found)
            found = [{"row": torch.cat([part.mini_batch["row"] for part in one.parts])} for one in found]
        assert [one["row"].tolist() for one in found] == expected
        assert len(loader) == loader.count_mini_batches(epoch) == len(expected)
        assert loader.rows_of(epoch, 1) == expected[1]
        assert loader.read(epoch, 1)[0] == expected[1]
    loader.end_workers()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_epoch_that_starts_later_equals_the_rest_of_the_epoch(num_workers):
    loader = loader_of(growing, num_workers=num_workers)
    whole = read(loader, 4)
    for start in range(len(whole) + 1):
        assert read(loader_of(growing), 4, start) == whole[start:]
    loader.end_workers()


def test_the_order_is_computed_once_per_epoch_and_once_more_in_the_first():
    epochs = []

    def function(epoch, generator):
        epochs.append(epoch)
        return range(ROWS)

    loader = loader_of(function)
    read(loader, 1), len(loader), loader.rows_of(1, 2), read(loader, 2), read(loader, 2, 1)
    assert epochs == [1, 1, 2]


def test_each_epoch_and_seed_has_its_own_generator():
    def function(epoch, generator):
        return torch.randperm(ROWS, generator=generator)

    found = [tuple(rows_of(order_of(function, ROWS, seed=seed), epoch)[0]) for seed in (1, 2) for epoch in (1, 2)]
    assert len(set(found)) == len(found)


def test_draws_from_the_global_streams_are_seeded_and_undone():
    def function(epoch, generator):
        return [random.randrange(ROWS), np.random.randint(ROWS), torch.randint(ROWS, ()).item()]

    before = capture_streams()
    first = rows_of(order_of(function))
    after = capture_streams()
    random.random(), np.random.rand(), torch.rand(1)
    assert rows_of(order_of(function)) == first
    assert after["random"] == before["random"]
    assert torch.equal(after["torch"], before["torch"])


def test_an_order_that_draws_elsewhere_is_refused():
    own = np.random.default_rng(1)
    with pytest.raises(DataError, match="drawn twice for epoch 1 with the same seeds, its rows differ from position"):
        rows_of(order_of(lambda epoch, generator: own.permutation(ROWS)))


WRONG = [
    (None, "is None"),
    ("0123", "is a str"),
    (7, "is an int"),
    ({0, 1}, "is a set"),
    (iter([0, 1]), "may be endless"),
    ([], "has no rows"),
    (torch.zeros(0, dtype=torch.int64), "has no rows"),
    ([0.0, 1.0], "of type float64"),
    (torch.tensor([0.5]), "of type float32"),
    ([True] * ROWS, "look like a mask"),
    ([[0, 1], []], "has an empty mini-batch, number 2 of 2"),
    ([0, [1]], "aren't integers"),
    ([[0], [[1]]], "mini-batch 2 of type int64 and shape"),
    (torch.zeros(2, 2, 2, dtype=torch.int64), "has the shape"),
    ([3, -1], "has row -1 at position 1"),
    ([3, ROWS], "has row 20 at position 1, but the rows of the dataset are from 0 to 19"),
    (["a"], "of type <U1"),
    (RowsByMiniBatch([1, 2, 3], [1, 1]), "has 3 rows, but its mini-batches have 2"),
]


@pytest.mark.parametrize(("value", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_is_no_order_is_refused_with_the_epoch_and_what_came(value, message):
    with pytest.raises(DataError, match="The order of training in epoch 1, of returning") as caught:
        rows_of(returning(value))
    assert message in str(caught.value)
    assert "To fix" in str(caught.value)


def test_an_error_of_the_function_names_the_epoch():
    def function(epoch, generator):
        raise LookupError("no such column")

    with pytest.raises(LookupError) as caught:
        rows_of(order_of(function), 3)
    assert "in the order of training in epoch 3" in "".join(caught.value.__notes__)


def test_drop_last_without_a_whole_mini_batch_is_refused():
    with pytest.raises(DataError, match="has 3 rows, fewer than a mini-batch of 4"):
        rows_of(order_of(lambda epoch, generator: [1, 2, 3], drop_last=True))


def test_drop_last_of_an_order_of_mini_batches_is_warned_of_once(caplog):
    order = order_of(lambda epoch, generator: [[0, 1], [2]], drop_last=True)
    assert rows_of(order) == rows_of(order, 2) == [[0, 1], [2]]
    (record,) = caplog.records
    assert "session.drop_last has no effect" in record.message


def test_an_order_for_another_dataset_is_refused():
    class Fixed:
        number_of_rows = 7

        def __call__(self, epoch, generator):
            return range(7)

    with pytest.raises(DataError, match="made for 7 rows, but the dataset has 20"):
        order_of(Fixed())


def test_what_workers_receive_does_not_hold_the_order():
    loader = loader_of(lambda epoch, generator: range(ROWS))  # a lambda can't be pickled
    read(loader)
    assert len(pickle.dumps(loader._dataset)) < 10_000


def test_a_run_that_resumes_without_the_order_of_its_checkpoint_is_warned_of(caplog):
    loader = loader_of(lambda epoch, generator: range(ROWS))
    read(loader, 2, 1)  # the run before had the default order
    read(loader, 3, 1)
    assert len(caplog.records) == 1


@pytest.mark.parametrize("changed", [False, True])
def test_a_resumed_order_that_has_changed_is_warned_of(changed, caplog):
    loader = loader_of(lambda epoch, generator: [1, 2, 3, 4, 5])
    read(loader, 2)
    resumed = loader_of(lambda epoch, generator: [1, 2, 3, 4, 6 if changed else 5])
    resumed.load_state_dict(loader.state_dict())
    assert len(read(resumed, 2, 1)) == 1
    assert ("isn't that of the run before it was resumed" in caplog.text) == changed
    read(resumed, 3, 1)
    assert len(caplog.records) == changed


def test_the_checksum_depends_on_the_mini_batches():
    joined, split = returning([[0, 1, 2]]), returning([[0], [1, 2]])
    assert joined.checksum(1) != split.checksum(1)
