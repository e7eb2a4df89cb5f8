"""The parts of a mini-batch: which samples belong to which part, and what the parts give together."""

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, is_dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch

from torchbase.data.mappings import with_values
from torchbase.errors import DataError


class MiniBatchPart(NamedTuple):
    """A part of a mini-batch.

    Attributes:
        number: The index of the part, from 0.
        mini_batch: The samples of the part, as a mini-batch.
    """

    number: int
    mini_batch: Any


class SplitMiniBatch(NamedTuple):
    """A mini-batch that was read in parts. Its parts are computed one after the other.

    Attributes:
        parts: The parts that have samples, in order. With several processes, those of this process.
        samples: The number of samples of the mini-batch, over all processes. None if the loader doesn't know it, since
            a collate function decides on it.
        with_samples: The numbers of the parts that have samples, in order, over all processes. Part 0 isn't among them
            if all of its shards of a stream have ended.
    """

    parts: tuple[MiniBatchPart, ...]
    samples: int | None = None
    with_samples: Sequence[int] = (0,)


class PartsToRead(NamedTuple):
    """In how many parts a loader reads each mini-batch, and which of them this process computes.

    Attributes:
        number: The number of parts; 1 for whole mini-batches.
        own: The parts of this process.
    """

    number: int = 1
    own: range = range(1)

    @property
    def are_all_own(self) -> bool:
        """Whether this process computes all parts."""
        return len(self.own) == self.number

    def samples_of(self, size: int) -> range:
        """Returns which samples of a mini-batch this process reads.

        Args:
            size: The number of samples of the mini-batch.
        """
        return range(*(start_of_part(size, self.number, part) for part in (self.own.start, self.own.stop)))


WHOLE = PartsToRead()


def samples_of_parts(samples: int, number: int) -> list[range]:
    """Returns which samples of a mini-batch belong to each part.

    Args:
        samples: The number of samples of the mini-batch.
        number: The number of parts.

    Returns:
        The positions of the samples of each part that has samples. The sizes of the parts differ by at most 1, and
        larger parts come first. If there are fewer samples than parts, the last parts have none and are left out.
    """
    starts = (start_of_part(samples, number, part) for part in range(min(number, samples) + 1))
    return [range(*bounds) for bounds in pairwise(starts)]


def start_of_part(samples: int, number: int, part: int) -> int:
    """Returns the position of the first sample of a part of a mini-batch; see `samples_of_parts`.

    Args:
        samples: The number of samples of the mini-batch.
        number: The number of parts.
        part: The number of the part; ``number`` returns the end of the mini-batch.
    """
    return part * (samples // number) + min(part, samples % number)


def count_samples(mini_batch: Any) -> int:
    """Returns the number of samples of a mini-batch with any nesting.

    Args:
        mini_batch: Tensors or arrays whose first dimension is the samples, and lists with one item per sample, in any
            nesting of dictionaries, lists, tuples and dataclasses.

    Returns:
        The first dimension of the first tensor or array. If there is none, the length of the first list in a
        dictionary; 0 if there is no list either.
    """
    if _is_array(mini_batch):
        return _length(mini_batch) if mini_batch.ndim else 0
    columns = mini_batch if isinstance(mini_batch, Mapping) else columns_of(mini_batch)
    values = list(columns.values())
    for value in values:
        if (samples := count_samples(value)) > 0:
            return samples
    return next((len(value) for value in values if isinstance(value, list)), 0)


def count_known_samples(mini_batch: Any) -> int:
    """Returns the number of samples of a mini-batch, as `count_samples`.

    Args:
        mini_batch: A mini-batch with any nesting.

    Raises:
        DataError: It has no tensors, arrays or lists to count.
    """
    samples = count_samples(mini_batch)
    if samples == 0:
        raise DataError(
            f"A part of a mini-batch, a {type(mini_batch).__name__}, has no tensor, array or list whose samples can be "
            "counted, and parts are weighted by their samples. To fix, override infer_mini_batch_size."
        )
    return samples


def columns_of(mini_batch: Any) -> Mapping[Any, Any]:
    """Returns the columns of a mini-batch that isn't a dictionary.

    Args:
        mini_batch: A tuple, a list or a dataclass of columns, a tensor, or another object.

    Returns:
        The columns by index or name; nothing for another object.
    """
    if isinstance(mini_batch, torch.Tensor):
        return {"mini_batch": mini_batch}
    if isinstance(mini_batch, list | tuple):
        return dict(enumerate(mini_batch))
    if is_dataclass(mini_batch) and not isinstance(mini_batch, type):
        return {field.name: getattr(mini_batch, field.name) for field in fields(mini_batch)}
    return {}


def split_mini_batch(mini_batch: Any, number: int, needed: range | None = None) -> list[Any]:
    """Splits a mini-batch by its samples.

    Args:
        mini_batch: A mini-batch as for `count_samples`. Values without a dimension of samples are in each part,
            unchanged.
        number: The number of parts.
        needed: Which parts are needed; all by default.

    Returns:
        The needed parts that have samples; see `samples_of_parts`.
    """
    samples = count_samples(mini_batch)
    parts = range(number) if needed is None else needed
    with_samples = range(parts.start, min(parts.stop, samples), parts.step)
    bounds = [(start_of_part(samples, number, part), start_of_part(samples, number, part + 1)) for part in with_samples]
    return [_take(mini_batch, samples, slice(*rows)) for rows in bounds]


def join_outputs(parts: Sequence[Mapping[str, Any]], sizes: Sequence[int]) -> dict[str, Any]:
    """Joins the outputs of the parts of a mini-batch.

    Args:
        parts: The values of each part by name.
        sizes: The number of samples of each part.

    Returns:
        The values of the whole mini-batch by name. Tensors, arrays and lists with one entry per sample are
        concatenated, numbers are averaged over the samples, and any other value is that of the last part. Those of a
        single part are its own, without a copy.
    """
    if len(parts) == 1:
        return dict(parts[0])
    return {name: _join([part[name] for part in parts if name in part], sizes) for name in parts[-1]}


def average_values(
    parts: Sequence[Mapping[str, Any]],
    sizes: Sequence[int],
    weights: Sequence[Any] = (),
    weighted: Collection[str] = (),
) -> dict[str, Any]:
    """Averages the values that the parts of a mini-batch logged.

    Args:
        parts: The values of each part by name: numbers, or tensors of shape ().
        sizes: The number of samples of each part.
        weights: How much each part weighs in the average of the values that ``weighted`` names: numbers, or tensors of
            shape () in double precision. A part can weigh 0.
        weighted: The names of these values.

    Returns:
        The averages by name, weighted by samples or weights. A value that only some parts logged is averaged over
        these. If they weigh nothing, it is 0.
    """
    logged: dict[str, list[tuple[Any, Any]]] = {}
    for part, size, weight in zip(parts, sizes, weights or sizes, strict=True):
        for name, value in part.items():
            logged.setdefault(name, []).append((value, weight if name in weighted else size))
    return {name: _mean(values) for name, values in logged.items()}


def _mean(weighted: Sequence[tuple[Any, Any]]) -> Any:
    # In double precision, on the device or as a number of Python: both give the same bits.
    total = sum((_times(_in_double(value), weight) for value, weight in weighted), start=0.0)
    of_all = sum(weight for _, weight in weighted)
    if isinstance(of_all, torch.Tensor):
        return torch.where(of_all > 0, total / of_all, 0.0)
    return total / of_all if of_all else 0.0


def _times(value: Any, weight: Any) -> Any:
    if isinstance(weight, torch.Tensor):
        return torch.where(weight > 0, value * weight, 0.0)
    return value * weight if weight else 0.0  # also if it is NaN, such as the mean over none


def _in_double(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return float(value)
    return (value.cpu() if value.device.type == "mps" else value).double()  # MPS has no double precision


def _take(value: Any, samples: int, rows: slice) -> Any:
    if _is_array(value):
        return value[rows] if _is_column(value, samples) else value
    if isinstance(value, Mapping):
        return with_values(value, {name: _take(item, samples, rows) for name, item in value.items()})
    if is_dataclass(value) and not isinstance(value, type):
        return _with_fields(value, {name: _take(item, samples, rows) for name, item in columns_of(value).items()})
    if isinstance(value, list) and len(value) == samples and not all(_is_column(item, samples) for item in value):
        return value[rows]
    if isinstance(value, list | tuple):
        items = [_take(item, samples, rows) for item in value]
        is_named = isinstance(value, tuple) and hasattr(value, "_fields")
        return type(value)(*items) if is_named else type(value)(items)
    return value


def _with_fields(value: Any, items: Mapping[str, Any]) -> Any:
    taken = copy.copy(value)
    for name, item in items.items():
        object.__setattr__(taken, name, item)  # also of a frozen one
    return taken


def _join(values: list[Any], sizes: Sequence[int]) -> Any:
    if len(values) == len(sizes):
        if all(_is_column(value, size) for value, size in zip(values, sizes, strict=True)):
            return torch.cat(values) if isinstance(values[0], torch.Tensor) else np.concatenate(values)
        if all(isinstance(value, list) and len(value) == size for value, size in zip(values, sizes, strict=True)):
            return [item for value in values for item in value]
        if all(_is_number(value) for value in values):
            mean = _mean(list(zip(values, sizes, strict=True)))
            return mean.to(values[0].dtype) if isinstance(values[0], torch.Tensor) else mean
    return values[-1]


def _is_array(value: Any) -> bool:
    return isinstance(value, torch.Tensor | np.ndarray)


def _length(array: Any) -> int:
    return array.size(0) if isinstance(array, torch.Tensor) else len(array)  # a nested tensor has no len


def _is_column(value: Any, samples: int) -> bool:
    return _is_array(value) and value.ndim > 0 and _length(value) == samples


def _is_number(value: Any) -> bool:
    is_scalar = isinstance(value, torch.Tensor) and value.ndim == 0 and value.is_floating_point()
    return is_scalar or isinstance(value, float)
