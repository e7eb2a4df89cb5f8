import numpy as np
import pyarrow as pa
import pytest
import torch
from datasets import Array2D, Dataset, Features, concatenate_datasets
from hypothesis import given
from hypothesis import strategies as st

from torchbase.data import arrow_columns
from torchbase.data.arrow_columns import ArrayColumn, to_column
from torchbase.data.loader import MiniBatchLoader
from torchbase.data.order import EpochOrder
from torchbase.data.pieced_columns import PiecedColumn, any_column
from torchbase.randomness.run_randomness import Randomness

LEAVES = [pa.int8(), pa.int64(), pa.uint16(), pa.float32(), pa.float64()]
SHAPES = [(), (3,), (2, 2), (1,)]


def rows_as_python_objects(column, rows):
    """Returns rows without Arrow's `take`, which returns other rows of a slice of nested lists of a fixed length."""
    values = column.to_pylist()
    return torch.tensor([values[row] for row in rows])


def pieces_of(lengths, shape, leaf, wrap=pa.list_):
    arrow_type = leaf
    for width in reversed(shape):
        arrow_type = pa.list_(arrow_type, width) if wrap == "fixed" else wrap(arrow_type)
    values = np.arange(sum(lengths) * int(np.prod(shape, dtype=int))).reshape(-1, *shape) % 100
    begins = np.cumsum([0, *lengths])
    chunks = [
        pa.array(values[begin : begin + length].tolist(), arrow_type)
        for begin, length in zip(begins, lengths, strict=False)
    ]
    return pa.chunked_array(chunks, arrow_type)


@given(
    lengths=st.lists(st.integers(0, 6), min_size=2, max_size=6).filter(lambda lengths: sum(lengths) > 0),
    shape=st.sampled_from(SHAPES),
    leaf=st.sampled_from(LEAVES),
    wrap=st.sampled_from([pa.list_, pa.large_list, "fixed"]),
    most_compared=st.sampled_from([2, 2**15]),
    cut=st.integers(0, 5),
    data=st.data(),
)
def test_any_pieces_have_the_rows_of_one(lengths, shape, leaf, wrap, most_compared, cut, data):
    column = pieces_of(lengths, shape, leaf, wrap).slice(min(cut, sum(lengths) - 1))
    rows = np.array(data.draw(st.lists(st.integers(0, len(column) - 1), min_size=1, max_size=8)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrow_columns, "MOST_LISTS_COMPARED", most_compared)
        read = any_column(column)
        for _ in range(2):  # the second time, the pieces are known
            taken, expected = read.take(rows), rows_as_python_objects(column, rows)
            assert torch.equal(taken, expected)
            joined = to_column(pa.chunked_array([column.slice(row, 1).combine_chunks() for row in rows.tolist()]))
            assert torch.equal(joined, expected)
            assert taken.dtype == joined.dtype == expected.dtype


@pytest.mark.parametrize("leaf", LEAVES)
@pytest.mark.parametrize("width", [1, 2, 65])
@pytest.mark.parametrize("shifts", [(0, 1), (1, 0), (2, 3), (3, 3), (8, 4)])
def test_numbers_may_be_at_any_address(leaf, width, shifts):
    pieces, size = [], leaf.bit_width // 8
    values = np.arange(12 * width, dtype=leaf.to_pandas_dtype()).reshape(2, 6 * width)
    for numbers, shift in zip(values, shifts, strict=True):
        content = pa.py_buffer(bytes(shift) + numbers.tobytes()).slice(shift)
        assert content.size == 6 * width * size
        column = pa.Array.from_buffers(leaf, 6 * width, [None, content])
        pieces.append(column if width == 1 else pa.FixedSizeListArray.from_arrays(column, width))
    column = pa.chunked_array(pieces)
    rows = np.array([11, 0, 6, 5, 5])
    assert torch.equal(any_column(column).take(rows), rows_as_python_objects(column, rows))


def test_one_piece_is_read_as_a_whole_and_several_by_themselves():
    assert isinstance(any_column(pieces_of([3], (2,), pa.int64())), ArrayColumn)
    assert isinstance(any_column(pieces_of([2, 1], (2,), pa.int64())), PiecedColumn)


@pytest.mark.parametrize(
    "chunks",
    [
        [[1, 2], [None]],
        [[[1]], [None]],
        [[[1]], [[None]]],
        [["a"], ["b"]],
        [[True], [False]],
        [[], []],
    ],
)
def test_pieces_that_can_not_be_read_from_buffers_are_left_to_datasets(chunks):
    arrow_type = pa.array([value for chunk in chunks for value in chunk]).type
    assert any_column(pa.chunked_array([pa.array(chunk, arrow_type) for chunk in chunks])) is None


@pytest.mark.parametrize("most_compared", [1, 2**15])
@pytest.mark.parametrize(
    ("chunks", "rows"),
    [
        ([[[1, 2], [3, 4]], [[5], [6]]], [0, 2]),  # regular within each piece
        ([[[1, 2], [3, 4]], [[5], [6, 7]]], [0, 2]),
        ([[[], []], [[5], [6]]], [0, 1]),
        ([[[1, 2]], [[3, 4]]], []),
    ],
)
def test_ragged_and_empty_rows_are_none(monkeypatch, most_compared, chunks, rows):
    monkeypatch.setattr(arrow_columns, "MOST_LISTS_COMPARED", most_compared)
    column = pa.chunked_array([pa.array(chunk, pa.list_(pa.int64())) for chunk in chunks])
    assert any_column(column).take(np.array(rows, dtype=np.int64)) is None


def test_rows_of_a_ragged_piece_that_are_regular_are_read():
    column = pa.chunked_array([pa.array([[1], [2, 3]]), pa.array([[4, 5], [6]])])
    assert any_column(column).take(np.array([2, 1])).tolist() == [[4, 5], [2, 3]]


def test_a_tensor_owns_its_memory_and_outlives_the_column():
    taken = any_column(pieces_of([2, 2], (3,), pa.float32())).take(np.array([3, 0]))
    taken += 1
    assert taken.tolist() == [[10, 11, 12], [1, 2, 3]]


def test_a_dataset_in_pieces_has_the_mini_batches_of_one_in_a_piece():
    features = Features({"picture": Array2D((2, 3), "float32")})
    parts = [
        Dataset.from_dict({"picture": np.random.default_rng(number).random((4, 2, 3))}, features=features)
        for number in range(3)
    ]
    pieced = concatenate_datasets(parts).select([7, 1, 11, 0, 5, 2, 9])
    order = EpochOrder(7, 3, True, "training", Randomness(1))
    whole = Dataset.from_dict({"picture": pieced["picture"][:]}, features=features)
    for one, other in zip(MiniBatchLoader(pieced, order), MiniBatchLoader(whole, order), strict=True):
        assert torch.equal(one["picture"], other["picture"])
