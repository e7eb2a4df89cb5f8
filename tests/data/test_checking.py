import pytest
import torch
from datasets import Dataset

from torchbase.errors import DataError
from torchbase.utils import TypedDict, check_columns

DATASET = Dataset.from_dict({"age": [3, 4, None], "name": ["a", "b", "c"]})


def test_a_dataset_of_the_expected_types_is_returned():
    dataset = DATASET.select([0, 1])
    assert check_columns(dataset, {"age": int, "name": str}) is dataset
    assert check_columns(DATASET, TypedDict({"age": int | None, "name": str})) is DATASET


def test_the_message_names_the_row_and_column_of_a_value_of_another_type():
    with pytest.raises(DataError, match="The column 'age' has to contain int, but row 2 contains None"):
        check_columns(DATASET, {"age": int, "name": str})


def test_rows_are_counted_over_all_batches():
    dataset = Dataset.from_dict({"x": ["a"] * 2500 + [""]}).with_transform(
        lambda batch: {"x": [value or None for value in batch["x"]]}
    )
    with pytest.raises(DataError, match="row 2500 contains None"):
        check_columns(dataset, {"x": str})


def test_the_return_value_of_a_transform_is_checked():
    dataset = DATASET.with_transform(lambda batch: {"x": [torch.ones(2) for _ in batch["name"]]})
    check_columns(dataset, {"x": torch.Tensor})


@pytest.mark.parametrize("types", [{"age": int}, {"age": int, "name": str, "more": int}])
def test_the_message_names_missing_and_unknown_columns(types):
    with pytest.raises(DataError, match=r"has the columns \['age', 'name'\], but types has"):
        check_columns(DATASET, types)
