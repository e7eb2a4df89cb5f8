"""Finds what in the rows of a mini-batch can have caused an error: None, lists of several lengths, labels out of range.

Nothing here runs unless an error was raised.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from torchbase.errors import list_first

if TYPE_CHECKING:
    from datasets import Dataset

# Messages of the losses and embeddings of torch, and of the metrics of torchbase.
ONE_TARGET = re.compile(r"Target (-?\d+) is out of bounds")
LAST_CLASS = re.compile(r"classes from 0 to (\d+)")
LENGTH_ERROR = re.compile(r"\blist\b|equal size")
INDEX_ERROR = re.compile(r"out of (bounds|range)|device-side assert|classes from 0 to")

PADDING = """
    def dataloader_collate_function(self, batch):
        from torchbase.data import pad

        return pad(batch, "{column}", value=0, mask=None)
"""

Rows = Sequence[int]


def describe_none(dataset: "Dataset", rows: Rows, name: str, columns: Iterable[str] | None = None) -> list[str]:
    """Describes columns that contain None.

    Args:
        dataset: The dataset. Its format or transform is ignored.
        rows: The positions of the rows of a mini-batch.
        name: The name of the dataset in messages.
        columns: The columns to inspect; None for all.

    Returns:
        A text for each column with None in these rows.
    """
    texts = []
    for column, values in _python_columns(dataset, rows, columns).items():
        none = [row for row, value in zip(rows, values, strict=True) if value is None]
        inside = [row for row, value in zip(rows, values, strict=True) if value is not None and _holds_none(value)]
        for found, where, condition in (
            (none, "is None", f"row['{column}'] is not None"),
            (inside, "contains None inside its lists", f"None not in row['{column}']"),
        ):
            if found:
                texts.append(
                    f"The column '{column}' of {name}, {dataset.features[column]}, {where} in {_list_rows(found)}. In "
                    "a mini-batch, None among numbers is NaN, and integers become floats; a list that is None can't be "
                    f"stacked. To fix, fill these values, or remove the rows: dataset.filter(lambda row: {condition})."
                )
    return texts


def describe_lengths(dataset: "Dataset", rows: Rows, name: str) -> list[str]:
    """Describes columns whose lists have several lengths, which are read as a list of tensors.

    Args:
        dataset: The dataset. Its format or transform is ignored.
        rows: The positions of the rows of a mini-batch.
        name: The name of the dataset in messages.

    Returns:
        A text for each such column.
    """
    texts = []
    for column, values in _python_columns(dataset, rows).items():
        shapes = {row: _shape(value) for row, value in zip(rows, values, strict=True) if isinstance(value, list)}
        if len(set(shapes.values())) > 1:
            shortest, longest = min(shapes, key=shapes.__getitem__), max(shapes, key=shapes.__getitem__)
            texts.append(
                f"The column '{column}' of {name} contains lists of several lengths: row {shortest} has the shape "
                f"{shapes[shortest]}, and row {longest} has {shapes[longest]}. Without padding, a mini-batch has a "
                f"list with a tensor for each sample. To fix, pad them, for example with this method of the session:\n"
                + PADDING.format(column=column)
            )
    return texts


def describe_labels(batch: Any, rows: Rows, name: str, message: str) -> list[str]:
    """Describes columns of integers that can be the cause of an index that is out of range.

    Args:
        batch: The mini-batch, as it was read.
        rows: The positions of its rows.
        name: The name of the dataset in messages.
        message: The message of the error.

    Returns:
        A text for each such column; nothing if the message is not that of an index out of range.
    """
    if not INDEX_ERROR.search(message) or not isinstance(batch, Mapping):
        return []
    is_wrong, expected = _expectation(message)
    texts = []
    for column, values in batch.items():
        if not _are_integers(values) or len(values) != len(rows):
            continue
        by_row = values.detach().cpu().reshape(len(rows), -1)
        wrong = is_wrong(by_row)
        found = [row for row, is_found in zip(rows, wrong.any(dim=1).tolist(), strict=True) if is_found]
        if found:
            some = sorted(set(by_row[wrong].tolist()))
            texts.append(
                f"The column '{column}' of {name} contains {list_first(some)} in {_list_rows(found)}; the "
                f"values of this mini-batch range from {int(by_row.min())} to {int(by_row.max())}. {expected} To fix, "
                "correct or remove these rows, or create the network with more classes (or embeddings)."
            )
    return texts


def _expectation(message: str) -> tuple[Callable[[torch.Tensor], torch.Tensor], str]:
    """Returns a function that finds the values an error complains of, and what was expected."""
    target, last = ONE_TARGET.search(message), LAST_CLASS.search(message)
    if target is not None:
        value = int(target[1])
        most = f", and there are at most {value} of them" if value >= 0 else ""
        return lambda values: values == value, f"Labels have to be class indices from 0{most}."
    if last is not None:
        highest = int(last[1])
        return (
            lambda values: (values < 0) | (values > highest),
            f"Labels have to be class indices from 0 to {highest}, since there are {highest + 1} classes.",
        )
    return (
        lambda values: (values < 0) | (values == values.max()),
        "Labels and indices have to be from 0 to one less than the number of classes (or embeddings).",
    )


def _python_columns(dataset: "Dataset", rows: Rows, columns: Iterable[str] | None = None) -> dict[str, list[Any]]:
    """Reads columns of numbers, texts and lists of them as Python objects. Others, such as images, are left out."""
    from datasets import ClassLabel, LargeList, List, Value

    names = [
        column
        for column in (dataset.column_names if columns is None else columns)
        if isinstance(dataset.features[column], ClassLabel | LargeList | List | Value)
    ]
    table = dataset.select_columns(names).with_format("arrow")[list(rows)] if names else None
    return {} if table is None else {column: table.column(column).to_pylist() for column in names}


def _holds_none(value: Any) -> bool:
    return isinstance(value, list) and any(item is None or _holds_none(item) for item in value)


def _shape(value: list[Any]) -> tuple[int, ...]:
    """Returns the length of a list and of the longest lists inside it."""
    inside = [_shape(item) for item in value if isinstance(item, list)]
    return (len(value), *max(inside)) if inside else (len(value),)


def _are_integers(values: Any) -> bool:
    is_tensor = isinstance(values, torch.Tensor) and values.dim() > 0 and values.numel() > 0
    return is_tensor and not (values.is_floating_point() or values.is_complex() or values.dtype == torch.bool)


def _list_rows(rows: Rows) -> str:
    return f"{'row' if len(rows) == 1 else 'rows'} {list_first(sorted(rows))}"
