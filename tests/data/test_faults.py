import re

import pytest
import torch
from datasets import Array2D, ClassLabel, Dataset, Features, Image, List, Value

from torchbase.data.faults import describe_labels, describe_lengths, describe_none

NAME = "the data of training"
NUMBERS = list(range(10))


def with_none(values, row=7):
    return [None if position == row else value for position, value in enumerate(values)]


COLUMNS_WITH_NONE = {
    "whole": (with_none(NUMBERS), Value("int64")),
    "real": (with_none([0.5] * 10), Value("float32")),
    "yes": (with_none([True] * 10), Value("bool")),
    "label": (with_none([0] * 10), ClassLabel(names=["a", "b"])),
    "text": (with_none(["a"] * 10), Value("string")),
    "list": (with_none([[1, 2]] * 10), List(Value("int64"))),
    "inside": ([[1, None] if row == 7 else [1, 2] for row in NUMBERS], List(Value("int64"))),
    "deep inside": ([[[1.0], [None if row == 7 else 1.0]] for row in NUMBERS], List(List(Value("float64")))),
    "empty": ([None] * 10, Value("null")),
}


@pytest.mark.parametrize("column", COLUMNS_WITH_NONE)
def test_none_is_found_in_every_type_of_column_with_its_row(column):
    values, feature = COLUMNS_WITH_NONE[column]
    columns = {column: values, "whole": NUMBERS} if column != "whole" else {column: values}
    dataset = Dataset.from_dict(columns).cast_column(column, feature)
    (text,) = describe_none(dataset, [2, 7] if column != "empty" else [7], NAME)
    assert f"The column '{column}' of the data of training, " in text
    assert "in row 7. " in text
    condition = re.search(r"dataset.filter\((lambda row: .*)\)", text)[1]
    if column not in ("empty", "deep inside"):
        assert len(dataset.filter(eval(condition))) == 9  # the message suggests it
    assert describe_none(dataset, [2, 3] if column != "empty" else [], NAME) == []


def test_rows_are_those_of_a_shuffled_dataset_and_are_not_all_listed():
    dataset = Dataset.from_dict({"x": with_none(NUMBERS)}).select([7, 0, 7, 1])
    assert "is None in rows 0, 2. " in describe_none(dataset, [3, 2, 1, 0], NAME)[0]
    many = Dataset.from_dict({"x": [None] * 9})
    assert "is None in rows 0, 1, 2, 3, 4, …. " in describe_none(many, list(range(9)), NAME)[0]


def test_images_and_arrays_are_left_out():
    features = Features({"image": Image(), "array": Array2D((2, 2), "float32")})
    dataset = Dataset.from_dict({"image": [None], "array": [[[0.0, 1.0], [2.0, 3.0]]]}, features=features)
    assert describe_none(dataset, [0], NAME) == []
    assert describe_lengths(dataset, [0], NAME) == []


@pytest.mark.parametrize(
    ("values", "shapes"),
    [
        ([[1, 2, 3], [1], [1, 2]], ["row 1 has the shape (1,)", "row 0 has (3,)"]),
        ([[[1, 2]], [[1, 2], [3, 4]], [[1, 2]]], ["row 0 has the shape (1, 2)", "row 1 has (2, 2)"]),
        ([[[1, 2]], [[1]], [[1, 2]]], ["row 1 has the shape (1, 1)", "row 0 has (1, 2)"]),
    ],
)
def test_lists_of_several_lengths_are_described_by_their_shortest_and_longest(values, shapes):
    dataset = Dataset.from_dict({"x": values, "y": [0, 1, 2], "same": [[1]] * 3})
    (text,) = describe_lengths(dataset, [0, 1, 2], NAME)
    assert text.startswith("The column 'x' of the data of training contains lists of several lengths")
    assert all(shape in text for shape in shapes)
    assert describe_lengths(dataset, [0], NAME) == []


BATCH = {
    "label": torch.tensor([0, 7, 3, -1]),
    "tokens": torch.tensor([[0, 1], [1, 2], [9, 7], [1, 1]]),
    "real": torch.rand(4),
    "yes": torch.tensor([True, False, True, True]),
    "text": ["a", "b", "c", "d"],
}


@pytest.mark.parametrize(
    ("message", "found"),
    [
        ("Target 7 is out of bounds.", {"label": "contains 7 in row 20; ", "tokens": "contains 7 in row 30; "}),
        ("Target -1 is out of bounds.", {"label": "contains -1 in row 40; "}),
        (
            "it has to contain classes from 0 to 3, but",
            {"label": "contains -1, 7 in rows 20, 40; ", "tokens": "contains 7, 9 in row 30; "},
        ),
        ("index out of range in self", {"label": "contains -1, 7 in rows 20, 40", "tokens": "contains 9 in row 30"}),
        ("CUDA error: device-side assert triggered", {"label": "contains -1, 7", "tokens": "contains 9 in row 30"}),
        ("mat1 and mat2 shapes cannot be multiplied", {}),
    ],
)
def test_labels_out_of_range_are_found_by_the_message_of_the_error(message, found):
    texts = describe_labels(BATCH, [10, 20, 30, 40], NAME, message)
    assert len(texts) == len(found)
    for text, (column, expected) in zip(texts, found.items(), strict=True):
        assert text.startswith(f"The column '{column}' of the data of training {expected}")


def test_the_text_has_the_number_of_classes_if_the_error_has_it():
    (text, _) = describe_labels(BATCH, [10, 20, 30, 40], NAME, "classes from 0 to 3")
    assert "Labels have to be class indices from 0 to 3, since there are 4 classes." in text
    (text, _) = describe_labels(BATCH, [10, 20, 30, 40], NAME, "Target 7 is out of bounds.")
    assert "there are at most 7 of them" in text
    assert "range from -1 to 7" in text


@pytest.mark.parametrize("batch", [None, [1], {}, {"label": torch.tensor(7)}, {"label": torch.tensor([7, 7])}])
def test_other_mini_batches_have_no_description(batch):
    assert describe_labels(batch, [0], NAME, "Target 7 is out of bounds.") == []
