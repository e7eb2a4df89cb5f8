import pickle
import tracemalloc
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pytest
import torch
from datasets import Dataset, concatenate_datasets, load_from_disk
from datasets.table import InMemoryTable

from torchbase.data.columns import ColumnReader
from torchbase.data.table_rows import TableRows

pytestmark = pytest.mark.usefixtures("column_length")

WIDTH = 16


def table_of(number_of_rows):
    numbers = np.arange(number_of_rows * WIDTH, dtype=np.float32)
    offsets = np.arange(0, number_of_rows * WIDTH + 1, WIDTH, dtype=np.int32)
    names = [f"row {row}" for row in range(number_of_rows)]
    return pa.table(
        {"row": np.arange(number_of_rows), "x": pa.ListArray.from_arrays(offsets, numbers), "name": names},
    )


def memory_mapped(path, number_of_rows, chunk_size):
    table = table_of(number_of_rows)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=chunk_size)
    return Dataset.from_file(str(path))


def check_rows(dataset, rows, columns=("row", "x", "name")):
    read = TableRows(dataset, columns).read(rows)
    expected = dataset.with_format("torch")[rows]
    assert set(read) == set(columns)
    for name in set(columns) - {"name"}:
        torch.testing.assert_close(read[name], expected[name], rtol=0, atol=0, equal_nan=True)
    assert "name" not in columns or read["name"] == expected["name"]


@pytest.mark.parametrize(
    "choose",
    [
        lambda dataset: dataset,
        lambda dataset: dataset.select(range(5, 15)),
        lambda dataset: dataset.select([7, 7, 0, 19, 3, 2, 11, 1]),
        lambda dataset: dataset.shuffle(seed=1).select(range(3, 12)),
        lambda dataset: dataset.shuffle(seed=1).flatten_indices(),
        lambda dataset: concatenate_datasets([dataset.select([1, 3, 2, 0]), dataset.shuffle(seed=2)]),
        lambda dataset: dataset.train_test_split(0.5, seed=3)["test"],
    ],
)
@pytest.mark.parametrize("chunk_size", [20, 3])
def test_rows_are_found_in_the_table(choose, chunk_size, tmp_path):
    dataset = choose(memory_mapped(tmp_path / "table.arrow", 20, chunk_size))
    check_rows(dataset, [4, 0, 7, 7])
    check_rows(dataset, [1], columns=("x",))


def test_rows_are_found_after_saving_and_loading_the_dataset(tmp_path):
    Dataset(table_of(20)).shuffle(seed=4).save_to_disk(tmp_path)
    check_rows(load_from_disk(tmp_path), [3, 19, 0])


def are_read_from_buffers(dataset, *columns):
    """Returns whether NumPy reads the rows. `datasets` would allocate memory of Arrow to read them."""
    rows = TableRows(dataset, columns)
    with arrow_memory() as pool:
        rows.read([1, 0, 3])
    return pool.max_memory() == 0


@contextmanager
def arrow_memory():
    """Measures the allocations of Arrow."""
    default_pool = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(default_pool)
    pa.set_memory_pool(pool)
    yield pool
    pa.set_memory_pool(default_pool)


def test_columns_of_numbers_are_read_from_their_buffers_for_any_selection_of_rows():
    dataset = Dataset(table_of(20))
    assert are_read_from_buffers(dataset, "row", "x")
    assert are_read_from_buffers(dataset.shuffle(seed=1), "row", "x")
    assert are_read_from_buffers(dataset.select(range(5, 10)), "row", "x")
    assert not are_read_from_buffers(dataset, "row", "x", "name")
    assert are_read_from_buffers(concatenate_datasets([dataset, dataset]), "row", "x")
    assert not are_read_from_buffers(concatenate_datasets([dataset, dataset]), "name")


def test_columns_with_nan_are_read_from_their_buffers():
    dataset = Dataset.from_dict({"x": [1.0, float("nan"), 3.0, float("nan")]})
    assert are_read_from_buffers(dataset, "x")
    check_rows(dataset, [1, 0, 3], columns=("x",))


def test_only_mini_batches_with_ragged_rows_are_not_read():
    dataset = Dataset.from_dict({"row": [0, 1, 2, 3], "x": [[1], [2, 3], [], [4]]}).select([3, 2, 1, 0])
    rows = TableRows(dataset, ["row", "x"])
    assert rows.read([0, 3])["x"].tolist() == [[4], [1]]
    assert rows.read([0, 1])["x"] is None
    assert rows.read([0, 1])["row"].tolist() == [3, 2]


class DatasetOfAnotherVersion(Dataset):
    """A dataset whose rows have other positions in the table than in current versions of `datasets`."""

    @property
    def data(self):
        return InMemoryTable(self._data.table.take(np.arange(len(self._data))[::-1]))


@pytest.mark.parametrize("columns", [{"row": range(20)}, {"row": range(20), "x": [[1.0]] * 20}])
def test_rows_are_read_by_datasets_if_they_are_not_found(columns):
    dataset = DatasetOfAnotherVersion(pa.table({name: list(values) for name, values in columns.items()}))
    assert dataset.data.table.column("row")[0].as_py() == 19
    check_rows(dataset, [3, 0, 19], columns=tuple(columns))
    assert not are_read_from_buffers(dataset, *columns)


def test_an_empty_dataset_can_be_inspected():
    assert TableRows(Dataset.from_dict({"x": [1.0]}).select([]), ["x"]).read([]) == {"x": None}


@pytest.mark.parametrize("chunk_size", [50_000, 1000])
@pytest.mark.parametrize("choose", [lambda dataset: dataset, lambda dataset: dataset.select(range(1, len(dataset), 2))])
def test_a_table_in_a_file_is_neither_read_completely_nor_copied(tmp_path, chunk_size, choose):
    dataset = choose(memory_mapped(tmp_path / "table.arrow", 50_000, chunk_size))
    tracemalloc.start()
    with arrow_memory() as pool:
        reader = ColumnReader(dataset)
        for begin in range(0, 20_000, 1000):
            reader.read(list(range(begin, begin + 32)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert pool.max_memory() < 50_000
    assert peak < 150_000  # also too small for a copy of the positions of the selected rows


@pytest.mark.parametrize("choose", [lambda dataset: dataset, lambda dataset: dataset.select(range(99, 9, -1))])
def test_a_table_in_a_file_is_pickled_as_a_file_name(tmp_path, choose):
    dataset = choose(memory_mapped(tmp_path / "table.arrow", 20_000, 20_000))
    rows = TableRows(dataset, ["row", "x"])
    pickled = pickle.dumps(rows)
    assert len(pickled) < 50_000
    unpickled, expected = pickle.loads(pickled).read([5, 0]), rows.read([5, 0])
    assert torch.equal(unpickled["x"], expected["x"])
    assert torch.equal(unpickled["row"], expected["row"])


def test_a_table_in_memory_is_pickled_once():
    dataset = Dataset(table_of(5000))
    assert len(pickle.dumps(ColumnReader(dataset))) < 1.1 * len(pickle.dumps(dataset))
