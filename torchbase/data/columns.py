"""Columns of a dataset as the columns of a mini-batch: tensors where they can be, lists where they can't."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from torchbase.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset


def is_unformatted(dataset: "Dataset") -> bool:
    """Tells whether the user has left it to torchbase how the rows come out.

    Args:
        dataset: A dataset.

    Returns:
        Whether it has neither a format nor a transform.
    """
    return dataset.format["type"] is None


def read_columns(dataset: "Dataset", rows: list[int]) -> dict[str, Any]:
    """Reads some rows of a dataset as a mini-batch.

    Args:
        dataset: A dataset; its format or transform is respected.
        rows: Positions in the dataset.

    Returns:
        By column, a tensor whose first dimension is the samples, or a list of one object a sample where the values
        can't be stacked (strings, tensors of different shapes, None).

    Raises:
        DataError: If the dataset's format gives no dictionary of columns.
    """
    columns = dataset[rows]
    if not isinstance(columns, Mapping):
        raise DataError(
            f"The dataset's format '{dataset.format['type']}' gives a {type(columns).__name__} and not a dictionary of "
            "columns. To fix, use no format, 'torch' or 'numpy', or override dataloader_collate_function."
        )
    return {name: stack(values) for name, values in columns.items()}


def collate_rows(rows: Sequence[Any]) -> dict[str, Any]:
    """Puts samples together as a mini-batch.

    Args:
        rows: The samples, each a dictionary with the same keys.

    Returns:
        By key, a tensor whose first dimension is the samples, or a list where the values can't be stacked.

    Raises:
        DataError: If the samples aren't dictionaries with the same keys.
    """
    for row in rows:
        if not isinstance(row, Mapping) or row.keys() != rows[0].keys():
            came = sorted(row) if isinstance(row, Mapping) else type(row).__name__
            expected = sorted(rows[0]) if isinstance(rows[0], Mapping) else "a dictionary"
            raise DataError(f"The samples of a mini-batch need the same keys: expected {expected}, got {came}.")
    return {name: stack([row[name] for row in rows]) for name in rows[0]}


def stack(values: Any) -> Any:
    """Makes one tensor of the values of a column where that is possible.

    Args:
        values: A tensor, an array, or a sequence of one value a sample.

    Returns:
        A tensor whose first dimension is the samples, or the values as a list.
    """
    if isinstance(values, torch.Tensor):
        return values
    if isinstance(values, np.ndarray) and values.dtype.kind in "biufc":
        return torch.from_numpy(values)
    values = list(values)
    if not values:
        return values
    if all(isinstance(value, torch.Tensor) for value in values):
        is_regular = len({(value.shape, value.dtype) for value in values}) == 1
        return torch.stack(values) if is_regular else values
    if all(isinstance(value, np.ndarray) and value.dtype.kind in "biufc" for value in values):
        is_regular = len({(value.shape, value.dtype) for value in values}) == 1
        return torch.from_numpy(np.stack(values)) if is_regular else values
    if all(isinstance(value, bool | int | float | np.number | np.bool_) for value in values):
        return torch.tensor(values)
    return values
