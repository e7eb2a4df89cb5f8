"""Taking a mini-batch apart by its samples, and putting together what was computed of the parts."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch


def count_samples(mini_batch: Any) -> int:
    """Tells how many samples a mini-batch holds, in whatever nest it comes.

    Args:
        mini_batch: Tensors or arrays whose first dimension is the samples, and lists of them, in any nesting of
            dictionaries, lists and tuples.

    Returns:
        The first dimension of the first tensor, else the length of the first list of a dictionary; 0 where there is
        neither.
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
    """Takes a mini-batch apart.

    Args:
        mini_batch: As `count_samples` takes it. What isn't of the samples goes into each part as it is.
        number: How many parts; at most as many as samples.

    Returns:
        The parts, of as equal sizes as can be, the larger ones first.
    """
    samples = count_samples(mini_batch)
    ends = [0]
    for part in range(number):
        ends.append(ends[-1] + samples // number + (part < samples % number))
    return [_take(mini_batch, samples, slice(*bounds)) for bounds in pairwise(ends)]


def join_outputs(parts: Sequence[Mapping[str, Any]], sizes: Sequence[int]) -> dict[str, Any]:
    """Puts together what was computed of the parts of a mini-batch.

    Args:
        parts: Values by name, part by part.
        sizes: How many samples each part holds.

    Returns:
        By name what the whole would have given: what has a row or an entry a sample one behind the other, numbers as
        means over the samples, and of anything else that of the last part.
    """
    return {name: _join([part[name] for part in parts if name in part], sizes) for name in parts[-1]}


def _take(value: Any, samples: int, rows: slice) -> Any:
    if _is_array(value):
        return value[rows] if value.ndim and len(value) == samples else value
    if isinstance(value, Mapping):
        return {name: _take(one, samples, rows) for name, one in value.items()}
    if isinstance(value, list) and len(value) == samples and not all(_is_column(one, samples) for one in value):
        return value[rows]
    if isinstance(value, list | tuple):
        items = [_take(one, samples, rows) for one in value]
        is_named = isinstance(value, tuple) and hasattr(value, "_fields")
        return type(value)(*items) if is_named else type(value)(items)
    return value


def _join(values: list[Any], sizes: Sequence[int]) -> Any:
    if len(values) == len(sizes):
        if all(_is_column(value, size) for value, size in zip(values, sizes, strict=True)):
            return torch.cat(values) if isinstance(values[0], torch.Tensor) else np.concatenate(values)
        if all(isinstance(value, list) and len(value) == size for value, size in zip(values, sizes, strict=True)):
            return [one for value in values for one in value]
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
