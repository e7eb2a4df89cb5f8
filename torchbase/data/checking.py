"""A look at the rows of a dataset before they are trained on."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torchbase.data.typed_dict import TypedDict
from torchbase.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

ROWS_AT_A_TIME = 1000


def check_columns(dataset: "Dataset", types: TypedDict | Mapping[str, Any]) -> "Dataset":
    """Checks the type of every value of a dataset, as its format or transform gives them.

    Args:
        dataset: The dataset; all of it is read once.
        types: The type of each column, as `TypedDict` takes them, e.g. ``{"image": torch.Tensor, "name": str}``.

    Returns:
        The dataset, so that ``return check_columns(dataset, types), …`` is all it takes.

    Raises:
        DataError: If a column is missing or unknown, or a value has another type; it names the row and the column.
        TypeError: If ``types`` isn't a dictionary of types by name.
    """
    checker = types if isinstance(types, TypedDict) else TypedDict(types)
    begin = 0
    for batch in dataset.iter(ROWS_AT_A_TIME):
        if batch.keys() != checker.type_dict.keys():
            raise DataError(
                f"The dataset has the columns {sorted(batch)}, and types are given for {sorted(checker.type_dict)}. "
                "To fix, give a type for each column, or choose columns with dataset.select_columns."
            )
        for column, values in batch.items():
            for position, value in enumerate(values):
                try:
                    checker.check_type(column, value)
                except TypeError as error:
                    expected = checker.type_dict[column]
                    raise DataError(
                        f"The column '{column}' has to hold {getattr(expected, '__name__', expected)}, and row "
                        f"{begin + position} holds {value!r:.80} ({type(value).__name__}). To fix, mend or filter the "
                        f"rows, or allow both types: {getattr(expected, '__name__', expected)} | …"
                    ) from error
        begin += ROWS_AT_A_TIME
    return dataset
