"""Reading of dataset columns as the columns of a mini-batch: tensors if possible, otherwise lists."""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from torchbase.data.arrow_columns import reason_for_slow_reading
from torchbase.data.changing_columns import ChangingColumns
from torchbase.data.faults import describe_none
from torchbase.data.ragged import RaggedLists, ragged_lists, to_lists
from torchbase.data.table_rows import TableRows, rows_in_table
from torchbase.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger("torchbase")

RAGGED = "its lists have several lengths, so it is a list of tensors in each mini-batch"


class ColumnReader:
    """A reader of mini-batches. It reads each column in the fastest way that returns the same values as `datasets`.

    Numbers, lists of equal length and strings are read directly from Arrow. Other columns, and rows that contain nulls,
    are read with ``dataset.with_format("torch")``, each column separately. These tensors are on the CPU. A column whose
    lists have several lengths, among all rows of the dataset, is a list of tensors in each mini-batch, also in those
    whose lists happen to have equal lengths.
    If the dataset has a transform or a custom format, all columns are read through it.
    """

    def __init__(self, dataset: "Dataset", name: str = "the dataset") -> None:
        """Inspects the columns. Nothing is read yet.

        Args:
            dataset: The dataset.
            name: The name of the dataset in messages.
        """
        self._dataset = dataset
        self._name = name
        self._changing = ChangingColumns(name)
        self._columns = [column for column in dataset.column_names if column in dataset.format["columns"]]
        self.has_users_format = _has_users_format(dataset, self._columns)
        self.reasons = {} if self.has_users_format else _find_slow_columns(dataset, self._columns)
        self._ragged = self._find_ragged_columns()
        fast = [column for column in self._columns if column not in self.reasons]
        self._table_rows = TableRows(dataset, fast) if fast and not self.has_users_format else None
        self._through_datasets: dict[str, Dataset] = {}

    @property
    def may_draw(self) -> bool:
        """Whether reading can draw random numbers, which is the case for a transform."""
        return bool(self._dataset.format["type"] == "custom")

    @property
    def has_ragged_columns(self) -> bool:
        """Whether lists of a column have several lengths, among all rows of the dataset."""
        return bool(self._ragged)

    def _find_ragged_columns(self) -> dict[str, RaggedLists]:
        if self.has_users_format:
            return {}
        table = self._dataset.data.table
        columns = {column: table.column(column) for column in self._columns if column not in self.reasons}
        ragged = ragged_lists(columns, rows_in_table(self._dataset))
        self.reasons.update(dict.fromkeys(ragged, RAGGED))
        return ragged

    def log_slow_columns(self) -> None:
        """Logs which columns are read through `datasets`, and why."""
        if self.has_users_format:
            kind = "transform" if self.may_draw else f"format '{self._dataset.format['type']}'"
            logger.info("%s is read through its %s, which is slower than reading from Arrow.", self._name, kind)
        for column, reason in self.reasons.items():
            self._log_slow_column(column, reason)

    def warn_of_none(self) -> None:
        """Warns of columns of numbers that contain None, unless a transform may fill them."""
        if self.may_draw:
            return
        for column in self._columns:
            count = self._dataset.data.column(column).null_count
            if count and _is_number(self._dataset.features[column]):
                logger.warning(
                    "The column '%s' of %s contains None in %d rows of its table. Among numbers, None is read as NaN, "
                    "and the integers of that mini-batch as floats. To fix, fill these values, or remove the rows: "
                    "dataset.filter(lambda row: row['%s'] is not None).",
                    column,
                    self._name,
                    count,
                    column,
                )

    def read(self, rows: list[int]) -> dict[str, Any]:
        """Reads a mini-batch.

        Args:
            rows: Positions in the dataset.

        Returns:
            A dictionary of columns. A column is a tensor whose first dimension is the samples, or a list with one
            object per sample if the values can't be stacked (strings, lists of several lengths, None).

        Raises:
            DataError: A column can't be read, or the format of the dataset doesn't return a dictionary of columns.
        """
        if self.has_users_format:
            return self._read_in_users_format(rows)
        columns = self._table_rows.read(rows) if self._table_rows is not None else {}
        return {
            column: values if (values := columns.get(column)) is not None else self._read_through_datasets(column, rows)
            for column in self._columns
        }

    def _read_through_datasets(self, column: str, rows: list[int]) -> Any:
        dataset = self._through_datasets.get(column)
        if dataset is None:
            dataset = self._dataset.select_columns([column]).with_format("torch", device="cpu")
            self._through_datasets[column] = dataset
            if column not in self.reasons:
                self._log_slow_column(column, "some of its rows are empty or contain nulls")
        try:
            values = to_lists(dataset[rows][column], self._ragged.get(column))
        except (AttributeError, TypeError, ValueError, RuntimeError) as error:
            faults = describe_none(self._dataset, rows, self._name, [column])
            if faults:
                raise DataError(faults[0]) from error
            raise DataError(
                f"The column '{column}' of {self._name}, {self._dataset.features[column]}, can't be converted to "
                f"tensors: {error}. To fix, cast it to numbers (dataset.cast_column), remove it "
                "(dataset.remove_columns), or set a transform (dataset.with_transform)."
            ) from error
        self._changing.check(column, values)
        return values

    def _read_in_users_format(self, rows: list[int]) -> dict[str, Any]:
        columns = self._dataset[rows]
        if not isinstance(columns, Mapping):
            raise DataError(
                f"The format '{self._dataset.format['type']}' of {self._name} has to return a dictionary of columns, "
                f"but returned {type(columns).__name__}. To fix, use no format, 'torch' or 'numpy', or override "
                "dataloader_collate_function."
            )
        stacked = {column: stack(values) for column, values in columns.items()}
        for column, values in stacked.items():
            self._changing.check(column, values)
        return stacked

    def _log_slow_column(self, column: str, reason: str) -> None:
        logger.info(
            "The column '%s' of %s is read through datasets, which is slower than reading from Arrow: %s.",
            column,
            self._name,
            reason,
        )


def collate_rows(rows: Sequence[Any]) -> dict[str, Any]:
    """Collates samples into a mini-batch.

    Args:
        rows: The samples, each a dictionary with the same keys.

    Returns:
        A dictionary of columns. A column is a tensor whose first dimension is the samples, or a list if the values
        can't be stacked.

    Raises:
        DataError: The samples are not dictionaries with the same keys.
    """
    for row in rows:
        if not isinstance(row, Mapping) or row.keys() != rows[0].keys():
            found = sorted(row) if isinstance(row, Mapping) else type(row).__name__
            expected = sorted(rows[0]) if isinstance(rows[0], Mapping) else "a dictionary"
            raise DataError(f"The samples of a mini-batch need the same keys: expected {expected}, got {found}.")
    return {name: stack([row[name] for row in rows]) for name in rows[0]}


def stack(values: Any) -> Any:
    """Stacks the values of a column into a tensor, if possible.

    Args:
        values: A tensor, an array, or a sequence with one value per sample; or a dictionary of these.

    Returns:
        A tensor whose first dimension is the samples, or a list of the values; for a dictionary, a dictionary of these.
    """
    if isinstance(values, torch.Tensor):
        return values
    if isinstance(values, np.ndarray) and values.dtype.kind in "biufc":
        return torch.from_numpy(values.copy())  # the array can be read-only, have negative strides, or be in use
    if isinstance(values, Mapping):
        return {name: stack(value) for name, value in values.items()}
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
        return torch.tensor(values, device="cpu")
    return values


def _is_number(feature: Any) -> bool:
    from datasets import ClassLabel, Value

    is_value = isinstance(feature, Value) and feature.dtype.startswith(("int", "uint", "float", "bool"))
    return is_value or isinstance(feature, ClassLabel)


def _has_users_format(dataset: "Dataset", columns: Sequence[str]) -> bool:
    """Returns whether the dataset has a transform, or a format other than tensors of all columns."""
    form = dataset.format
    plain = form["type"] is None or (form["type"] == "torch" and not form["format_kwargs"])
    return not plain or (form["output_all_columns"] and set(columns) != set(dataset.column_names))


def _find_slow_columns(dataset: "Dataset", columns: Sequence[str]) -> dict[str, str]:
    schema, features = dataset.data.table.schema, dataset.features  # which is a copy at each access
    found = {column: reason_for_slow_reading(features[column], schema.field(column).type) for column in columns}
    return {column: reason for column, reason in found.items() if reason is not None}
