import logging
from datetime import datetime, time
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import datasets
import numpy as np
import pytest
import torch
from datasets import Array2D, Dataset, Features, List, Value, concatenate_datasets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_tables import any_datasets, rows_of

from torchbase.data import arrow_columns
from torchbase.data.columns import RAGGED, ColumnReader, collate_rows, stack
from torchbase.errors import DataError


@pytest.fixture(autouse=True, scope="module")
def _without_progress_bars():
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def assert_same(read, expected):
    assert type(read) is type(expected)
    if isinstance(expected, torch.Tensor):
        torch.testing.assert_close(read, expected, rtol=0, atol=0, equal_nan=True)
    elif isinstance(expected, dict):
        assert list(read) == list(expected)
        for name, value in expected.items():
            assert_same(read[name], value)
    elif isinstance(expected, list):
        for value, expected_value in zip(read, expected, strict=True):
            assert_same(value, expected_value)
    else:
        assert read == expected


def unstacked(values):
    is_stacked = isinstance(values, torch.Tensor) and values.dim() > 0
    return [unstacked(value) for value in values] if is_stacked or isinstance(values, list) else values


@pytest.mark.filterwarnings("ignore:Specifying null_placement:FutureWarning")  # from sort of datasets
@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
def test_mini_batches_equal_those_of_datasets_with_the_format_torch(data):
    most_compared = data.draw(st.sampled_from([arrow_columns.MOST_LISTS_COMPARED, -1]))  # -1: all columns count as long
    with TemporaryDirectory() as folder, patch.object(arrow_columns, "MOST_LISTS_COMPARED", most_compared):
        dataset = data.draw(any_datasets(Path(folder)))
        reader = ColumnReader(dataset)
        for rows in data.draw(st.lists(rows_of(dataset), min_size=2, max_size=2)):
            try:
                expected = dict(dataset.with_format("torch")[rows])
            except AttributeError:  # datasets fails for a list column whose first row is null
                with pytest.raises(DataError, match="The column 'column"):
                    reader.read(rows)
            else:
                read = reader.read(rows)
                for column in [name for name, reason in reader.reasons.items() if reason == RAGGED]:
                    assert isinstance(read[column], list)  # also where lengths are equal by chance
                    read[column], expected[column] = unstacked(read[column]), unstacked(expected[column])
                assert_same(read, expected)


def mixed_dataset(number_of_rows=8):
    generator = np.random.default_rng(2)
    columns = {
        "image": generator.random((number_of_rows, 2, 3), dtype=np.float32),
        "list": generator.random((number_of_rows, 4)),
        "label": list(range(number_of_rows)),
        "flag": [row % 2 == 0 for row in range(number_of_rows)],
        "name": [f"row {row}" for row in range(number_of_rows)],
        "ragged": [list(range(row % 3)) for row in range(number_of_rows)],
    }
    features = {"image": Array2D((2, 3), "float32"), "list": List(Value("float64")), "label": Value("int32")}
    features |= {"flag": Value("bool"), "name": Value("string"), "ragged": List(Value("int64"))}
    return Dataset.from_dict(columns, Features(features))


@pytest.mark.parametrize("chunks", [1, 3])
def test_changes_of_a_mini_batch_affect_neither_the_dataset_nor_other_mini_batches(chunks):
    dataset = concatenate_datasets([mixed_dataset()] * chunks)
    reader = ColumnReader(dataset)
    rows = list(range(8))
    expected = dict(dataset.with_format("torch")[rows])
    first, second = reader.read(rows), reader.read(rows)
    for name in ("image", "list", "label", "flag"):
        first[name].zero_()
    first["name"].clear()
    assert_same(second, expected)
    assert_same(reader.read(rows), expected)
    assert_same(dict(dataset.with_format("torch")[rows]), expected)


@pytest.mark.parametrize(
    "set_format",
    [
        lambda dataset: dataset.with_format("torch", columns=["name", "label", "image"]),
        lambda dataset: dataset.with_format("torch", columns=["label"], output_all_columns=True),
        lambda dataset: dataset.with_format("torch", dtype=torch.float64),
        lambda dataset: dataset.with_format("torch"),
    ],
)
def test_mini_batches_of_a_custom_torch_format_equal_those_of_datasets(set_format):
    dataset = set_format(mixed_dataset().remove_columns(["name", "ragged"]).add_column("name", list("abcdefgh")))
    expected = {name: stack(values) for name, values in dataset[[5, 1]].items()}
    assert_same(ColumnReader(dataset).read([5, 1]), expected)


def test_only_the_columns_of_the_format_are_read_and_from_arrow():
    reader = ColumnReader(mixed_dataset().with_format("torch", columns=["name", "label"]))
    assert not reader.has_users_format
    assert_same(reader.read([3, 0]), {"label": torch.tensor([3, 0]), "name": ["row 3", "row 0"]})


def test_a_format_that_only_selects_columns_restricts_the_mini_batch():
    dataset = mixed_dataset()
    dataset.set_format(columns=["label"])
    assert_same(ColumnReader(dataset).read([2, 2]), {"label": torch.tensor([2, 2])})


def test_columns_outside_of_the_format_equal_those_of_datasets():
    dataset = mixed_dataset().with_format("torch", columns=["label"], output_all_columns=True)
    batch = ColumnReader(dataset).read([1, 2])
    assert batch["name"] == ["row 1", "row 2"]
    assert batch["ragged"] == [[0], [0, 1]]
    assert_same(batch["label"], torch.tensor([1, 2]))


def test_arrays_of_the_format_numpy_are_converted_to_tensors_of_their_dtype():
    dataset = mixed_dataset()
    dataset.set_format("numpy", columns=["image", "label", "name"])
    batch = ColumnReader(dataset).read([1, 4])
    assert batch["image"].shape == (2, 2, 3)
    assert batch["image"].dtype == torch.float32
    assert_same(batch["label"], torch.tensor([1, 4]))
    assert list(batch["name"]) == ["row 1", "row 4"]


READ_ONLY = np.arange(3.0)
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([torch.ones(2), torch.zeros(2)], torch.tensor([[1.0, 1.0], [0.0, 0.0]])),
        ([torch.ones(1), torch.zeros(2)], [torch.ones(1), torch.zeros(2)]),
        ([torch.ones(1), torch.ones(1, dtype=torch.int64)], [torch.ones(1), torch.ones(1, dtype=torch.int64)]),
        (torch.ones(2, 3), torch.ones(2, 3)),
        ([np.ones(2, dtype=np.int16), np.zeros(2, dtype=np.int16)], torch.tensor([[1, 1], [0, 0]], dtype=torch.int16)),
        ([1, 2], torch.tensor([1, 2])),
        ([1, 2.5], torch.tensor([1.0, 2.5])),
        ([np.float32(0.5), np.float32(2)], torch.tensor([0.5, 2.0])),
        ((True, False), torch.tensor([True, False])),
        (["a", "b"], ["a", "b"]),
        ([1, None], [1, None]),
        ([[1, 2], [3, 4]], [[1, 2], [3, 4]]),
        ([], []),
        (READ_ONLY, torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)),
        (np.arange(3)[::-1], torch.tensor([2, 1, 0])),
        (np.array(["a", "b"]), [np.str_("a"), np.str_("b")]),
        ({"ids": [1, 2], "text": ["a", "b"]}, {"ids": torch.tensor([1, 2]), "text": ["a", "b"]}),
    ],
)
def test_the_values_of_a_transform_are_stacked_if_possible(values, expected):
    dataset = Dataset.from_dict({"row": [0, 1]}).with_transform(lambda batch: {"column": values})
    assert_same(ColumnReader(dataset).read([0, 1]), {"column": expected})


def test_changes_of_a_mini_batch_do_not_affect_an_array_of_a_transform():
    array = np.arange(3.0)
    reader = ColumnReader(Dataset.from_dict({"row": [0, 1, 2]}).with_transform(lambda batch: {"column": array}))
    reader.read([0, 1, 2])["column"].zero_()
    assert array.tolist() == [0, 1, 2]


@pytest.mark.parametrize("kind", ["pandas", "arrow"])
def test_a_format_without_a_dictionary_of_columns_is_refused(kind):
    reader = ColumnReader(mixed_dataset().with_format(kind), "the data of training")
    with pytest.raises(DataError, match=f"format '{kind}' of the data of training .* but returned (DataFrame|Table)"):
        reader.read([0, 1])


@pytest.mark.parametrize("moment", [datetime(2020, 1, 2), time(3, 4)])
def test_the_message_names_a_column_that_cannot_be_converted_to_tensors(moment):
    reader = ColumnReader(Dataset.from_dict({"x": [1, 2], "moment": [moment, moment]}), "the data of training")
    with pytest.raises(DataError, match=r"column 'moment' of the data of training, Value\('time.*cast_column"):
        reader.read([0, 1])


def test_only_a_transform_may_draw_random_numbers():
    dataset = mixed_dataset()
    assert not any(ColumnReader(dataset.with_format(kind)).may_draw for kind in (None, "torch", "numpy", "arrow"))
    assert ColumnReader(dataset.with_transform(lambda batch: batch)).may_draw


def test_slow_columns_are_logged_with_the_reason(caplog):
    caplog.set_level(logging.INFO, "torchbase")
    columns = {"x": [1], "texts": [["a"]], "record": [{"a": 1}], "moment": [datetime(2020, 1, 2)], "raw": [b"a"]}
    reader = ColumnReader(Dataset.from_dict(columns), "the data of training")
    assert caplog.messages == []
    reader.log_slow_columns()
    reasons = {message.split("'")[1]: message.partition("from Arrow: ")[2] for message in caplog.messages}
    assert reasons == {
        "texts": "lists of string are objects.",
        "record": "it holds dictionaries.",
        "moment": "timestamp[us] has no type in torch.",
        "raw": "binary has no type in torch.",
    }


@pytest.mark.parametrize(
    ("values", "is_warned"),
    [
        ([1, None, 3], True),
        ([1.0, None, 3.0], True),
        ([True, None, False], True),
        ([1, 2, 3], False),
        (["a", None, "b"], False),
        ([[1], None, [2]], False),
    ],
)
def test_none_among_numbers_is_said_before_it_is_read(caplog, values, is_warned):
    dataset = Dataset.from_dict({"y": values})
    for kind in (None, "torch", "numpy"):
        caplog.clear()
        ColumnReader(dataset.with_format(kind), "the data of training").warn_of_none()
        assert ["'y' of the data of training contains None in 1 rows" in message for message in caplog.messages] == (
            [True] if is_warned else []
        )
    caplog.clear()
    ColumnReader(dataset.with_transform(lambda batch: {"y": [one or 0 for one in batch["y"]]})).warn_of_none()
    assert caplog.messages == []


def test_a_column_with_ragged_rows_is_logged_once(caplog):
    caplog.set_level(logging.INFO, "torchbase")
    reader = ColumnReader(mixed_dataset(), "the data of training")
    reader.log_slow_columns()
    for rows in ([4, 7], [0, 1], [1, 2], [1, 1]):
        reader.read(rows)
    (message,) = caplog.messages
    assert "'ragged' of the data of training" in message
    assert "its lists have several lengths, so it is a list of tensors in each mini-batch" in message


@pytest.mark.parametrize(
    ("set_format", "expected"),
    [
        (lambda dataset: dataset.with_transform(dict), "read through its transform"),
        (lambda dataset: dataset.with_format("numpy"), "read through its format 'numpy'"),
    ],
)
def test_a_custom_format_is_logged_as_slow(caplog, set_format, expected):
    caplog.set_level(logging.INFO, "torchbase")
    ColumnReader(set_format(mixed_dataset()), "the data of training").log_slow_columns()
    (message,) = caplog.messages
    assert message.startswith("the data of training is ")
    assert expected in message


def test_samples_are_collated_by_key():
    rows = [{"x": torch.ones(2), "n": 1, "name": "a"}, {"x": torch.zeros(2), "n": 2, "name": "b"}]
    expected = {"x": torch.stack([torch.ones(2), torch.zeros(2)]), "n": torch.tensor([1, 2]), "name": ["a", "b"]}
    assert_same(collate_rows(rows), expected)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"x": 1}, {"y": 1}], r"expected \['x'\], got \['y'\]"),
        ([{"x": 1}, {"x": 1, "y": 1}], r"expected \['x'\], got \['x', 'y'\]"),
        ([{"x": 1}, (1,)], r"expected \['x'\], got tuple"),
        ([torch.ones(1)], "expected a dictionary, got Tensor"),
    ],
)
def test_samples_with_different_keys_are_refused(rows, message):
    with pytest.raises(DataError, match=message):
        collate_rows(rows)
