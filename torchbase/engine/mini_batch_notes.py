"""Describes a mini-batch in notes on an error: names, types and shapes of its columns, its rows, and faults in them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.utils.rnn import PackedSequence

from torchbase.data.loader import MiniBatchLoader
from torchbase.data.parts import SplitMiniBatch, columns_of
from torchbase.errors import TorchbaseError

ROWS_SHOWN = 20


def add_note(error: BaseException, place: str, batch: Any, rows: list[int] | None = None, more: str = "") -> None:
    """Adds a note that describes a mini-batch to an error.

    Args:
        error: The error.
        place: Where it was raised, such as ``"before training, with the first mini-batch of training"``.
        batch: The mini-batch.
        rows: The rows of its samples in the dataset; None if they are unknown.
        more: A text to append.
    """
    error.add_note(f"{place}: {describe(batch)}{'' if rows is None else f'; {_describe_rows(rows)}'}{more}")


def rows_of(loader: object, epoch: int, position: int) -> list[int] | None:
    """Returns the rows of a mini-batch in the dataset.

    Args:
        loader: The loader of the phase.
        epoch: The epoch; the first is 1.
        position: The position of the mini-batch in the epoch; the first is 0.

    Returns:
        The rows; None if the loader doesn't know them: a stream, or a loader that torchbase didn't make.
    """
    return loader.rows_of(epoch, position) if isinstance(loader, MiniBatchLoader) else None


def add_faults(error: Exception, loader: object, epoch: int, position: int) -> None:
    """Adds a note to an error for each fault in the rows of a mini-batch that can be its cause.

    The mini-batch is read again. Nothing is added to an error of torchbase, which says what is wrong, or if the loader
    can't find faults.

    Args:
        error: The error.
        loader: The loader of the phase.
        epoch: The epoch; the first is 1.
        position: The position of the mini-batch in the epoch; the first is 0.
    """
    if isinstance(loader, MiniBatchLoader) and not isinstance(error, TorchbaseError):
        for fault in loader.find_faults(epoch, position, str(error)):
            error.add_note(fault)


def describe(batch: Any) -> str:
    """Describes a mini-batch for a message.

    Args:
        batch: A mini-batch.

    Returns:
        A text with the name, type and shape of each column.
    """
    if isinstance(batch, SplitMiniBatch):
        if not batch.parts:
            return "no samples for this process"
        return f"{len(batch.parts)} parts; the first has {describe(batch.parts[0].mini_batch)}"
    if isinstance(batch, Mapping):
        return _describe_columns(batch) or "no columns"
    has_columns = not isinstance(batch, torch.Tensor | list | PackedSequence)
    columns = _describe_columns(columns_of(batch)) if has_columns else ""
    return f"{type(batch).__name__} of {columns}" if columns else _describe_column(batch)


def _describe_columns(columns: Mapping[Any, Any]) -> str:
    return ", ".join(f"{name}: {_describe_column(values)}" for name, values in columns.items())


def _describe_column(values: Any) -> str:
    if isinstance(values, torch.Tensor) and values.is_nested:
        return f"nested tensor of {values.dtype} with {values.size(0)} tensors"
    if isinstance(values, torch.Tensor):
        return f"{values.dtype} of shape {tuple(values.shape)}"
    if isinstance(values, list):
        return f"list of {len(values)} {type(values[0]).__name__ if values else 'objects'}"
    return type(values).__name__


def _describe_rows(rows: list[int]) -> str:
    shown = ", ".join(map(str, rows[:ROWS_SHOWN]))
    return f"its samples are the rows {shown}{f', … ({len(rows)} in all)' if len(rows) > ROWS_SHOWN else ''}"
