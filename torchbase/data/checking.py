"""A check of all values of a dataset before the training."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torchbase.data.typed_dict import TypedDict
from torchbase.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

ROWS_AT_A_TIME = 1000


def check_columns(dataset: "Dataset", types: TypedDict | Mapping[str, Any]) -> "Dataset":
    """Checks the type of each value of a dataset, after its format or transform is applied.

    Args:
        dataset: The dataset. It is read once, completely.
        types: The type of each column, as for `TypedDict`, e.g. ``{"image": torch.Tensor, "name": str}``.

    Returns:
        The same dataset, for use in an expression such as ``return check_columns(dataset, types), …``.

    Raises:
        DataError: A column is missing or unknown, or a value has a different type. The message names the row and the
            column.
        TypeError: ``types`` is not a dictionary from names to types.
    """
    checker = types if isinstance(types, TypedDict) else TypedDict(types)
    begin = 0
    for batch in dataset.iter(ROWS_AT_A_TIME):
        if batch.keys() != checker.type_dict.keys():
            raise DataError(
                f"The dataset has the columns {sorted(batch)}, but types has {sorted(checker.type_dict)}. To fix, pass "
                "a type for each column, or select columns with dataset.select_columns."
            )
        for column, values in batch.items():
            for position, value in enumerate(values):
                try:
                    checker.check_type(column, value)
                except TypeError as error:
                    expected = checker.type_dict[column]
                    raise DataError(
                        f"The column '{column}' has to contain {getattr(expected, '__name__', expected)}, but row "
                        f"{begin + position} contains {value!r:.80} ({type(value).__name__}). To fix, correct or "
                        f"filter the rows, or allow both types: {getattr(expected, '__name__', expected)} | …"
                    ) from error
        begin += ROWS_AT_A_TIME
    return dataset
