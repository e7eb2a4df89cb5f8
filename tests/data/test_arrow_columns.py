import numpy as np
import pyarrow as pa
import pytest
import torch
from datasets import Array2D, ClassLabel, Dataset, Features, Image, LargeList, List, Translation, Value

from torchbase.data.arrow_columns import array_column, as_tensor, reason_for_slow_reading, to_array, to_column

pytestmark = pytest.mark.usefixtures("column_length")

NUMBERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64"]
REGULAR = [[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [10, 11, 12]], [[13, 14, 15], [16, 17, 18]]]


def reason_for(feature):
    return reason_for_slow_reading(feature, Features({"x": feature}).arrow_schema.field("x").type)


def chunked(values, arrow_type):
    return pa.chunked_array([pa.array(values, arrow_type)])


def lists_of_lengths(lengths):
    return chunked([list(range(length)) for length in lengths], pa.list_(pa.int64()))


@pytest.mark.parametrize(
    "feature",
    [
        *map(Value, [*NUMBERS, "bool", "string", "large_string"]),
        ClassLabel(num_classes=3),
        List(Value("int8")),
        List(List(Value("float32"), length=3)),
        LargeList(Value("bool")),
        Array2D((2, 3), "uint8"),
        Array2D((None, 3), "float64"),
    ],
    ids=repr,
)
def test_numbers_lists_of_numbers_and_strings_can_be_read_from_arrow(feature):
    assert reason_for(feature) is None


@pytest.mark.parametrize(
    ("feature", "reason"),
    [
        ({"a": Value("int64")}, "it holds dictionaries"),
        (List({"a": Value("int64")}), "it holds dictionaries"),
        (Image(), "Image is decoded by datasets"),
        (List(Image()), "Image is decoded by datasets"),
        (Translation(["de", "en"]), "Translation is decoded by datasets"),
        (List(Value("string")), "lists of string are objects"),
        (List(List(Value("binary"))), "lists of binary are objects"),
        (Array2D((1, 2), "string"), "lists of string are objects"),
        (Value("timestamp[us]"), r"timestamp[us] has no type in torch"),
        (Value("binary"), "binary has no type in torch"),
        (Value("null"), "null has no type in torch"),
    ],
    ids=repr,
)
def test_each_other_column_has_a_reason(feature, reason):
    assert reason_for(feature) == reason


@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize("of_numbers", [True, False])
def test_integers_are_converted_to_int64_and_floats_to_float32(kind, of_numbers):
    (arrow_type,) = Features({"x": Value(kind)}).arrow_schema.types
    column = chunked([1, 2, 3], arrow_type) if of_numbers else chunked(REGULAR, pa.list_(pa.list_(arrow_type)))
    expected_type = torch.float32 if kind.startswith("float") else torch.int64
    expected = torch.tensor([1, 2, 3] if of_numbers else REGULAR, dtype=expected_type)
    for tensor in (to_column(column), array_column(column).take(np.arange(3))):
        torch.testing.assert_close(tensor, expected, rtol=0, atol=0)


def test_booleans_and_strings_are_read_but_not_by_numpy():
    flags, names = chunked([True, False], pa.bool_()), chunked(["a", "ü"], pa.string())
    assert torch.equal(to_column(flags), torch.tensor([True, False]))
    assert to_column(names) == ["a", "ü"]
    assert array_column(flags) is None
    assert array_column(names) is None


@pytest.mark.parametrize(
    "column",
    [
        chunked([1, None], pa.int64()),
        chunked([True, None], pa.bool_()),
        chunked(["a", None], pa.string()),
        chunked([[1], None], pa.list_(pa.int64())),
        chunked([[1], None], pa.list_(pa.int64(), 1)),
        chunked([[1], [None]], pa.list_(pa.int64())),
        chunked([[[1]], [None]], pa.list_(pa.list_(pa.int64()))),
        lists_of_lengths([1, 2]),
        lists_of_lengths([0, 0]),
        chunked([], pa.int64()),
        chunked([], pa.list_(pa.int64())),
    ],
    ids=lambda column: f"{column.type}: {column.to_pylist()}",
)
def test_rows_that_are_ragged_empty_or_contain_nulls_are_read_by_datasets(column):
    assert to_column(column) is None
    array = array_column(column)
    assert array is None or array.take(np.arange(len(column))) is None


def test_nulls_in_other_rows_have_no_effect():
    column = chunked([[1, 2], None, [3, None], [4, 5]], pa.list_(pa.int64()))
    assert torch.equal(to_column(column.take([3, 0])), torch.tensor([[4, 5], [1, 2]]))
    assert array_column(column) is None


def test_ragged_rows_do_not_shift_regular_rows():
    array = array_column(lists_of_lengths([3, 1, 3, 0, 3, 2]))
    assert torch.equal(array.take(np.array([4, 0, 2])), torch.arange(3).repeat(3, 1))
    assert torch.equal(array.take(np.array([2, 2])), torch.arange(3).repeat(2, 1))
    assert array.take(np.array([0, 1])) is None
    assert array.take(np.array([3])) is None


@pytest.mark.parametrize(
    "arrow_type",
    [
        pa.list_(pa.list_(pa.int32())),
        pa.large_list(pa.large_list(pa.int32())),
        pa.list_(pa.list_(pa.int32(), 3), 2),
        pa.list_(pa.list_(pa.int32(), 3)),
        pa.list_(pa.list_(pa.int32()), 2),
    ],
    ids=str,
)
def test_slices_of_lists_are_read_from_their_offset(arrow_type):
    column = chunked(REGULAR, arrow_type).slice(1, 2)
    expected = torch.tensor([REGULAR[2], REGULAR[1], REGULAR[1]])
    assert torch.equal(array_column(column).take(np.array([1, 0, 0])), expected)
    assert torch.equal(to_column(column), torch.tensor(REGULAR[1:]))


def test_nested_lists_are_regular_only_if_all_inner_lists_are_regular():
    column = chunked([[[1, 2], [3]], [[4], [5, 6]]], pa.list_(pa.list_(pa.int64())))
    assert to_column(column) is None
    assert array_column(column).take(np.arange(2)) is None


def test_numbers_beyond_two_gigabytes_are_read():
    width, rows = 2**20, 2**11 + 2
    numbers = np.zeros(width * rows, dtype=np.int8)  # unwritten pages take no memory
    numbers[-width:] = 7
    inner = pa.FixedSizeListArray.from_arrays(pa.array(numbers), width)
    column = pa.chunked_array([pa.ListArray.from_arrays(np.arange(rows + 1, dtype=np.int32), inner)])
    last = array_column(column).take(np.array([rows - 1]))
    assert last.shape == (1, 1, width)
    assert bool((last == 7).all())


@pytest.mark.parametrize("values", [[1e300, -1e300, 0.1], [float("inf"), float("nan"), 1e-320]])
def test_values_outside_of_float32_are_converted_as_by_torch(values):
    expected = torch.tensor(values, dtype=torch.float64).to(torch.float32)
    torch.testing.assert_close(to_column(chunked(values, pa.float64())), expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("arrow_type", [pa.float32(), pa.int64(), pa.bool_()])
def test_tensors_own_their_memory(arrow_type):
    column = chunked([1, 0, 1], pa.int64()).cast(arrow_type)
    to_column(column).zero_()
    if (array := array_column(column)) is not None:
        array.take(np.arange(3)).zero_()
        array.take(np.arange(0, 3, 2)).zero_()
    assert column.cast(pa.int64()).to_pylist() == [1, 0, 1]


def test_numbers_in_shared_memory_are_copied():
    numbers = np.arange(4)
    numbers.flags.writeable = False
    as_tensor(numbers[1:], [3]).zero_()
    assert numbers.tolist() == [0, 1, 2, 3]


def test_chunks_are_combined_and_extension_types_are_converted_to_their_storage_type():
    dataset = Dataset.from_dict({"x": [[[1, 2]], [[3, 4]]]}, Features({"x": Array2D((1, 2), "int64")}))
    column = dataset.data.table.column("x")
    chunks = pa.chunked_array([*column.chunks, *column.slice(1).chunks])
    assert to_array(chunks).to_pylist() == [[[1, 2]], [[3, 4]], [[3, 4]]]
    assert torch.equal(to_column(chunks), torch.tensor([[[1, 2]], [[3, 4]], [[3, 4]]]))
    assert array_column(chunks) is None
    assert torch.equal(array_column(column).take(np.array([1])), torch.tensor([[[3, 4]]]))
