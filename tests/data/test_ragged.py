import numpy as np
import pyarrow as pa
import pytest
import torch
from datasets import Array2D, Dataset, Features, List, Value, concatenate_datasets
from hypothesis import given, settings
from hypothesis import strategies as st

from torchbase.data import ragged
from torchbase.data.columns import ColumnReader
from torchbase.data.ragged import ragged_lists


def lists(depth):
    inner = st.integers(-5, 5) if depth == 0 else lists(depth - 1)
    return st.one_of(
        st.lists(inner, min_size=2, max_size=2),  # often regular
        st.lists(inner, max_size=3),
    )


def lengths_by_level(rows):
    """The set of lengths at each level, in plain Python."""
    found, values = [], [row for row in rows if row is not None]
    while any(isinstance(value, list) for value in values):
        found.append({len(value) for value in values})
        values = [item for value in values for item in value if item is not None]
    return found


def level_of(rows):
    return max((level for level, lengths in enumerate(lengths_by_level(rows), 1) if len(lengths) > 1), default=0)


def levels_of(columns, rows):
    return {name: lists.level for name, lists in ragged_lists(columns, rows).items()}


@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(0, 2), st.booleans(), st.integers(1, 3))
def test_the_level_is_that_of_plain_python(data, depth, has_none, chunks):
    row = st.one_of(st.none(), lists(depth)) if has_none else lists(depth)
    rows = data.draw(st.lists(row, min_size=1, max_size=12))
    arrow_type = pa.int32()
    for _ in range(depth + 1):
        arrow_type = pa.list_(arrow_type)
    bounds = sorted(data.draw(st.lists(st.integers(0, len(rows)), min_size=chunks - 1, max_size=chunks - 1)))
    pieces = [rows[begin:end] for begin, end in zip([0, *bounds], [*bounds, len(rows)], strict=True)]
    column = pa.chunked_array([pa.array(piece, arrow_type) for piece in pieces], arrow_type)
    expected = {"x": level_of(rows)} if level_of(rows) else {}
    assert levels_of({"x": column, "number": column}, None).get("x", 0) == expected.get("x", 0)
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=12))
    of_chosen = levels_of({"x": column}, np.array(chosen))
    assert of_chosen.get("x", 0) == level_of([rows[row] for row in chosen])
    sliced = column.slice(1)
    assert levels_of({"x": sliced}, None).get("x", 0) == level_of(rows[1:])


@pytest.mark.parametrize("at_a_time", [1, 3, 2**16])
def test_rows_are_inspected_in_blocks(at_a_time, monkeypatch):
    monkeypatch.setattr(ragged, "ROWS_AT_A_TIME", at_a_time)
    column = pa.chunked_array([[[1, 2], [3, 4], [5, 6]], [[7, 8], [9]]])
    assert levels_of({"x": column}, None) == {"x": 1}
    assert levels_of({"x": column}, np.array([0, 1, 3])) == {}


def test_fixed_lengths_are_regular():
    rows = [[[1, 2], [3, 4]], [[5, 6], [7, 8]]] * 2
    for feature in (List(List(Value("int32"), length=2), length=2), Array2D((2, 2), "int32")):
        dataset = Dataset.from_dict({"x": rows}, Features({"x": feature}))
        assert ColumnReader(dataset).reasons == {}
        assert ColumnReader(dataset.select([2, 1])).read([0, 1])["x"].tolist() == [rows[2], rows[1]]


def ragged_dataset():
    return Dataset.from_dict({"x": [[1, 2], [3, 4], [5], [6, 7]], "points": [[[1, 2]], [[3, 4], [5, 6]]] * 2})


def test_a_ragged_column_is_a_list_in_each_mini_batch(caplog):
    caplog.set_level("INFO", "torchbase")
    reader = ColumnReader(ragged_dataset(), "the data")
    reader.log_slow_columns()
    assert "'x' of the data is read through datasets" in caplog.text
    assert "its lists have several lengths, so it is a list of tensors in each mini-batch" in caplog.text
    for rows in ([0, 1], [0, 2], [3]):
        batch = reader.read(rows)
        assert [one.tolist() for one in batch["x"]] == [[[1, 2], [3, 4], [5], [6, 7]][row] for row in rows]
        assert all(isinstance(one, torch.Tensor) for one in [*batch["x"], *batch["points"]])
        assert {one.dtype for one in batch["x"]} == {torch.int64}
        assert all(one.shape[1:] == (2,) for one in batch["points"])


def test_lists_inside_the_lists_of_a_row_are_lists_in_each_mini_batch():
    dataset = Dataset.from_dict({"x": [[[1], [2]], [[3, 4], [5]], [[6], [7]]]})
    for rows in ([0, 2], [1], [0, 1]):
        batch = ColumnReader(dataset).read(rows)["x"]
        expected = [[[1], [2]], [[3, 4], [5]], [[6], [7]]]
        assert [[one.tolist() for one in row] for row in batch] == [expected[row] for row in rows]
        assert all(isinstance(row, list) for row in batch)


DTYPES = {
    "int32": torch.int64,
    "uint8": torch.int64,
    "float16": torch.float32,
    "float64": torch.float32,
    "bool": torch.bool,
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("inner", [(), (2,), (3, 2)], ids=str)
@pytest.mark.parametrize("has_fixed_lengths", [False, True])
def test_a_list_without_items_is_a_tensor_like_the_others(dtype, inner, has_fixed_lengths):
    feature = Value(dtype)
    for length in reversed(inner):
        feature = List(feature, length=length if has_fixed_lengths else -1)
    rows = [np.ones((length, *inner), dtype).tolist() for length in (2, 0, 1, 0)]
    features = Features({"rows": List(feature), "parts": List(List(feature))})
    dataset = Dataset.from_dict({"rows": rows, "parts": [rows[:2], [], rows[2:], rows[:1]]}, features)
    for chosen in ([0, 1, 2, 3], [1], [1, 3]):
        batch = ColumnReader(dataset).read(chosen)
        lengths = [(2, 0, 1, 0)[row] for row in chosen]
        assert [(one.shape, one.dtype) for one in batch["rows"]] == [((n, *inner), DTYPES[dtype]) for n in lengths]
        parts = [[(2, 0), (), (1, 0), (2,)][row] for row in chosen]
        for found, expected in zip(batch["parts"], parts, strict=True):
            assert [(one.shape, one.dtype) for one in found] == [((n, *inner), DTYPES[dtype]) for n in expected]


def test_only_the_rows_of_the_dataset_count():
    dataset = ragged_dataset()
    long = dataset.filter(lambda row: len(row["x"]) == 2)
    assert ColumnReader(long).read([0, 2])["x"].tolist() == [[1, 2], [6, 7]]
    both = concatenate_datasets([dataset.select([0]), dataset.select([3])])
    assert ColumnReader(both).read([0, 1])["x"].tolist() == [[1, 2], [6, 7]]


def test_a_transform_that_stacks_by_chance_is_warned_of_once(caplog):
    def tensors(batch):
        return {"x": [torch.tensor(values) for values in batch["x"]]}

    reader = ColumnReader(ragged_dataset().with_transform(tensors), "the data")
    reader.read([0, 1]), reader.read([2])
    assert not caplog.records
    reader.read([0, 2]), reader.read([0, 1]), reader.read([2, 3])
    (record,) = caplog.records
    assert (
        "The column 'x' of the data is a tensor in some mini-batches and a list of tensors in others" in record.message
    )
