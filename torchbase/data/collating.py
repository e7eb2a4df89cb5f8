"""Collates samples of any kind into a mini-batch. A column never changes between tensor and list by chance."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from torchbase.errors import DataError

PAD = (
    "To fix, pad or crop them in dataloader_collate_function, e.g. with torchbase.data.pad, or return objects of their "
    "own, which are collected in a list."
)


def collate_samples(samples: Sequence[Any]) -> Any:
    """Collates samples into a mini-batch of the same structure.

    Args:
        samples: Dictionaries, tuples, tensors, arrays, numbers or other objects, each with the same structure.

    Returns:
        The structure of a sample. Tensors, arrays, numbers and lists of numbers are stacked to tensors, whose first
        dimension is the samples. Numbers of Python are int64, float32 or bool. Other objects are a list.

    Raises:
        DataError: The samples differ in their structure, or tensors in their shape or dtype.
    """
    return _collate(list(samples), "")


def _collate(values: list[Any], path: str) -> Any:
    first = values[0]
    if isinstance(first, Mapping):
        keys = [sorted(map(str, value)) if isinstance(value, Mapping) else None for value in values]
        _check_equal(keys, "keys", values, path)
        return {name: _collate([value[name] for value in values], f"{path}[{name!r}]") for name in first}
    if isinstance(first, tuple) and not _is_packed(first):
        _check_equal([len(value) if isinstance(value, tuple) else None for value in values], "items", values, path)
        items = [_collate([value[index] for value in values], f"{path}[{index}]") for index in range(len(first))]
        return type(first)(*items) if hasattr(first, "_fields") else tuple(items)
    return _collate_column(values, path)


def _collate_column(values: list[Any], path: str) -> Any:
    numbers = [_as_numbers(value) for value in values]
    if all(one is None for one in numbers):
        return values
    tensors = [one for one in numbers if one is not None]
    if len(tensors) < len(values):
        _check_equal(["objects" if one is None else "numbers" for one in numbers], "content", values, path)
    _check_equal([tuple(one.shape) for one in tensors], "shape", values, path)
    _check_equal([one.dtype for one in tensors], "dtype", values, path)
    return torch.stack(tensors)


def _as_numbers(value: Any) -> torch.Tensor | None:
    """Returns a sample's value as a tensor; None if it can't be stacked: a text, or another object."""
    if isinstance(value, torch.Tensor):
        return value if value.layout is torch.strided and not value.is_nested else None
    if isinstance(value, np.ndarray | np.generic):
        return torch.from_numpy(np.array(value)) if value.dtype.kind in "biufc" else None  # a copy, which is writable
    if isinstance(value, bool | int | float):
        return torch.tensor(value, device="cpu")
    if isinstance(value, list) and value:
        try:
            return _as_numbers(np.array(value)) if _is_of_numpy(value[0]) else torch.tensor(value, device="cpu")
        except (TypeError, ValueError, RuntimeError):  # texts or other objects
            return None
    return torch.zeros(0, device="cpu") if isinstance(value, list) else None


def _is_of_numpy(value: Any) -> bool:
    return isinstance(value, np.ndarray | np.generic)


def _is_packed(value: object) -> bool:
    return isinstance(value, torch.nn.utils.rnn.PackedSequence)


def _check_equal(found: Sequence[Any], what: str, values: Sequence[Any], path: str) -> None:
    different = next((index for index, one in enumerate(found) if one != found[0]), None)
    if different is None:
        return
    kinds = [f"{type(values[index]).__name__} with the {what} {found[index]}" for index in (0, different)]
    where = f"The column {path}" if path else "A sample"
    raise DataError(
        f"{where} can't be stacked to a tensor: it is a {kinds[0]} in the first sample of the mini-batch, and a "
        f"{kinds[1]} in sample {different + 1}. {PAD}"
    )
