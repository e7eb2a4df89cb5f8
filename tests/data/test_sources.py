"""Datasets of torch, and others with a length and samples, in the loader of datasets."""

import random
from collections import namedtuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset

from torchbase.data.loader import MiniBatchLoader
from torchbase.data.order import EpochOrder
from torchbase.data.parts import PartsToRead
from torchbase.errors import DataError
from torchbase.randomness.run_randomness import Randomness
from torchbase.randomness.streams import capture_streams

ROWS = 22

# The tests don't depend on the number of cores.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")


class Squares(Dataset):
    """Draws from the three global streams, as an augmentation does."""

    def __init__(self, rows=ROWS):
        self.rows = rows

    def __len__(self):
        return self.rows

    def __getitem__(self, row):
        return {"row": row, "drawn": torch.rand(1) + np.random.rand() + random.random()}


class Together(Squares):
    """Reads the samples of a mini-batch together."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __getitems__(self, rows):
        self.calls.append(rows)
        return [super(Together, self).__getitem__(row) for row in rows]

    def __getitem__(self, row):
        raise LookupError("not called")


def loader_of(dataset, size=4, shuffle=True, **options):
    return MiniBatchLoader(dataset, EpochOrder(len(dataset), size, shuffle, "training", Randomness(3)), **options)


def read(loader, epoch=1, start=0):
    return [{name: values.tolist() for name, values in one.items()} for one in loader.mini_batches(epoch, start)]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 60), st.integers(1, 9), st.booleans(), st.data())
def test_each_sample_is_read_as_ordered_and_seeking_equals_reading(rows, size, shuffle, data):
    loader = loader_of(Squares(rows), size, shuffle)
    whole = read(loader, 2)
    assert sorted(row for one in whole for row in one["row"]) == list(range(rows))
    start = data.draw(st.integers(0, len(whole)))
    assert read(loader, 2, start) == whole[start:]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_change_neither_the_order_nor_the_random_numbers(num_workers):
    expected, loader = loader_of(Squares()), loader_of(Squares(), num_workers=num_workers)
    for epoch in (1, 2, 1):
        assert read(loader, epoch) == read(expected, epoch)
    loader.end_workers()


def test_parts_read_the_samples_of_their_rows():
    whole = read(loader_of(Squares()))
    own = [loader_of(Squares(), parts=PartsToRead(3, range(part, part + 1))) for part in range(3)]
    for batch, *parts in zip(whole, *own, strict=True):
        rows = [row for one in parts for part in one.parts for row in part.mini_batch["row"].tolist()]
        assert rows == batch["row"]
        assert parts[0].samples == len(rows)


def test_reading_does_not_change_the_global_random_streams():
    before = capture_streams()
    read(loader_of(Squares()))
    after = capture_streams()
    assert after["random"] == before["random"]
    assert torch.equal(after["torch"], before["torch"])


def test_samples_are_read_together_if_the_dataset_can():
    dataset = Together()
    assert read(loader_of(dataset)) == read(loader_of(Squares()))
    assert sorted(row for rows in dataset.calls for row in rows) == list(range(ROWS))


@pytest.mark.parametrize(("returned", "found"), [([1], "1 samples"), (None, "None"), (iter([1, 2, 3, 4]), "iterator")])
def test_getitems_that_returns_something_else_is_refused(returned, found):
    class Wrong(Squares):
        def __getitems__(self, rows):
            return returned

    with pytest.raises(DataError, match=f"has to return a list of 4 samples.*{found}"):
        read(loader_of(Wrong()))


Pair = namedtuple("Pair", "x y")
STRUCTURES = [
    (lambda row: torch.tensor([row, row]), lambda batch: batch[:, 0]),
    (lambda row: row, lambda batch: batch),
    (lambda row: (np.array([0.5]), row), lambda batch: batch[1]),
    (lambda row: Pair(float(row), "text"), lambda batch: batch.x.long()),
    (lambda row: {"in": {"x": [row, row]}, "none": None}, lambda batch: batch["in"]["x"][:, 1]),
    (lambda row: (str(row), [str(row)]), lambda batch: torch.tensor(list(map(int, batch[0])))),
]


@pytest.mark.parametrize(("sample", "rows"), STRUCTURES)
def test_a_mini_batch_has_the_structure_of_a_sample(sample, rows):
    batches = list(loader_of([sample(row) for row in range(10)], shuffle=False))
    assert [rows(batch).tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_the_dtypes_are_those_of_torch():
    sample = {"int": 1, "float": 0.5, "bool": True, "double": np.array([1.0]), "half": torch.ones(1).half()}
    (batch,) = loader_of([sample, sample], shuffle=False)
    dtypes = {name: values.dtype for name, values in batch.items()}
    expected = {"int": torch.int64, "float": torch.float32, "bool": torch.bool}
    assert dtypes == {**expected, "double": torch.float64, "half": torch.float16}


def test_datasets_of_torch_are_read():
    tensors = TensorDataset(torch.arange(10), torch.arange(10) * 2)
    for dataset in (tensors, Subset(tensors, list(range(10))), ConcatDataset([tensors])):
        numbers = torch.cat([batch[1] for batch in loader_of(dataset, shuffle=False)])
        assert numbers.tolist() == list(range(0, 20, 2))


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ({"x": [1, 2]}, {"x": [1]}, r"The column \['x'\] can't be stacked to a tensor.*\(2,\).*sample 2"),
        ({"x": torch.ones(2)}, {"x": torch.ones(2).int()}, "dtype torch.float32"),
        ({"x": 1.0}, {"x": None}, "content numbers.*NoneType"),
        ({"x": 1}, {"y": 1}, "A sample can't be stacked.*keys"),
        ((1, 2), (1,), "items 2"),
        ({"x": {"y": torch.ones(1)}}, {"x": {"y": torch.ones(2)}}, r"\['x'\]\['y'\]"),
        ({"x": 1}, (1,), "keys"),
    ],
)
def test_a_column_is_never_a_list_by_chance(first, second, message):
    with pytest.raises(DataError, match=message) as caught:
        list(loader_of([first, second], 2, shuffle=False))
    assert "while reading mini-batch 1 of epoch 1 of training" in "".join(caught.value.__notes__)


def test_a_collate_function_receives_the_samples():
    loader = loader_of(Squares(), collate=lambda samples: tuple(sample["row"] for sample in samples), shuffle=False)
    assert next(iter(loader)) == (0, 1, 2, 3)
