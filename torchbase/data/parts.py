"""Splits a mini-batch by its samples, and joins the outputs of the parts."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch


def count_samples(mini_batch: Any) -> int:
    """Returns the number of samples of a mini-batch with any nesting.

    Args:
        mini_batch: Tensors or arrays whose first dimension is the samples, and lists with one item per sample, in any
            nesting of dictionaries, lists and tuples.

    Returns:
        The first dimension of the first tensor or array. If there is none, the length of the first list in a
        dictionary; 0 if there is no list either.
    """
    if _is_array(mini_batch):
        return len(mini_batch) if mini_batch.ndim else 0
    if not isinstance(mini_batch, Mapping | list | tuple):
        return 0
    values = list(mini_batch.values()) if isinstance(mini_batch, Mapping) else list(mini_batch)
    for value in values:
        if (samples := count_samples(value)) > 0:
            return samples
    return next((len(value) for value in values if isinstance(value, list)), 0)


def split_mini_batch(mini_batch: Any, number: int) -> list[Any]:
    """Splits a mini-batch by its samples.

    Args:
        mini_batch: A mini-batch as for `count_samples`. Values without a dimension of samples are in each part,
            unchanged.
        number: The number of parts, at most the number of samples.

    Returns:
        The parts. Their sizes differ by at most 1, and larger parts come first.
    """
    samples = count_samples(mini_batch)
    ends = [0]
    for part in range(number):
        ends.append(ends[-1] + samples // number + (part < samples % number))
    return [_take(mini_batch, samples, slice(*bounds)) for bounds in pairwise(ends)]


def join_outputs(parts: Sequence[Mapping[str, Any]], sizes: Sequence[int]) -> dict[str, Any]:
    """Joins the outputs of the parts of a mini-batch.

    Args:
        parts: The values of each part by name.
        sizes: The number of samples of each part.

    Returns:
        The values of the whole mini-batch by name. Tensors, arrays and lists with one entry per sample are
        concatenated, numbers are averaged over the samples, and any other value is that of the last part.
    """
    return {name: _join([part[name] for part in parts if name in part], sizes) for name in parts[-1]}


def _take(value: Any, samples: int, rows: slice) -> Any:
    if _is_array(value):
        return value[rows] if value.ndim and len(value) == samples else value
    if isinstance(value, Mapping):
        return {name: _take(item, samples, rows) for name, item in value.items()}
    if isinstance(value, list) and len(value) == samples and not all(_is_column(item, samples) for item in value):
        return value[rows]
    if isinstance(value, list | tuple):
        items = [_take(item, samples, rows) for item in value]
        is_named = isinstance(value, tuple) and hasattr(value, "_fields")
        return type(value)(*items) if is_named else type(value)(items)
    return value


def _join(values: list[Any], sizes: Sequence[int]) -> Any:
    if len(values) == len(sizes):
        if all(_is_column(value, size) for value, size in zip(values, sizes, strict=True)):
            return torch.cat(values) if isinstance(values[0], torch.Tensor) else np.concatenate(values)
        if all(isinstance(value, list) and len(value) == size for value, size in zip(values, sizes, strict=True)):
            return [item for value in values for item in value]
        if all(_is_number(value) for value in values):
            return sum(value * size for value, size in zip(values, sizes, strict=True)) / sum(sizes)
    return values[-1]


def _is_array(value: Any) -> bool:
    return isinstance(value, torch.Tensor | np.ndarray)


def _is_column(value: Any, samples: int) -> bool:
    return _is_array(value) and value.ndim > 0 and len(value) == samples


def _is_number(value: Any) -> bool:
    is_scalar = isinstance(value, torch.Tensor) and value.ndim == 0 and value.is_floating_point()
    return is_scalar or isinstance(value, float)
