"""Pads columns whose samples have several lengths."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from torchbase.data.collating import collate_samples
from torchbase.errors import DataError, list_first


def pad(
    samples: Sequence[Mapping[str, Any]],
    *columns: str,
    value: float | Mapping[str, float] = 0,
    mask: str | None = "mask",
) -> dict[str, Any]:
    """Collates samples into a mini-batch, and pads columns to the longest of them.

    The first dimension is padded, at its end. Padded columns always are tensors, also if all lengths are equal, and a
    column of several lengths that isn't padded is an error. So no column changes between tensor and list by chance.

    Args:
        samples: The samples, each a dictionary of its columns: the argument of ``dataloader_collate_function``.
        *columns: The columns to pad: tensors, arrays or lists of numbers, shape (length, …). The lengths of a sample
            have to be the same in each of them, unless ``mask`` is None.
        value: The number to pad with, or one for each of the columns.
        mask: The name of a column that is added: True for what was there, False for what was padded, shape (samples,
            longest). None adds none.

    Returns:
        The columns by name.

    Raises:
        DataError: A column is missing, isn't made of numbers, or differs in more than its first dimension; the lengths
            of a sample differ between columns; the mask has the name of a column.

    Example:
        ::

            def dataloader_collate_function(self, batch):
                return pad(batch, "tokens", value=0, mask="mask")
    """
    _check(samples, columns, value, mask)
    tensors = {column: _tensors(samples, column) for column in columns}
    others = [{name: one for name, one in sample.items() if name not in tensors} for sample in samples]
    padded = {
        column: torch.nn.utils.rnn.pad_sequence(
            values, batch_first=True, padding_value=value[column] if isinstance(value, Mapping) else value
        )
        for column, values in tensors.items()
    }
    batch = {**collate_samples(others), **padded}
    in_order = {name: batch[name] for name in samples[0]}
    return in_order if mask is None else {**in_order, mask: _mask(tensors)}


def _check(
    samples: Sequence[Any], columns: Sequence[str], value: float | Mapping[str, float], mask: str | None
) -> None:
    if not columns:
        raise DataError("pad expects the names of the columns to pad. To fix, pass them: pad(samples, 'tokens').")
    for sample in samples:
        found = sample if isinstance(sample, Mapping) else None
        if found is None or any(column not in found for column in columns):
            is_or_has = f"is a {type(sample).__name__}" if found is None else f"has {list_first(map(repr, found))}"
            raise DataError(
                f"pad can't find the columns {list_first(map(repr, columns))} in a sample, which {is_or_has}. To fix, "
                "pass the names of columns of the samples."
            )
    if mask is not None and mask in samples[0]:
        raise DataError(
            f"pad can't add the mask {mask!r}, since a column has this name. To fix, pass another, or None."
        )
    if isinstance(value, Mapping) and set(value) != set(columns):
        raise DataError(f"pad expects a value for each of {sorted(columns)}, but got values for {sorted(value)}.")


def _tensors(samples: Sequence[Mapping[str, Any]], column: str) -> list[torch.Tensor]:
    tensors = [_tensor(sample[column]) for sample in samples]
    wrong = next((index for index, one in enumerate(tensors) if one is None or one.dim() == 0), None)
    found = [one for one in tensors if one is not None]
    if wrong is not None:
        raise DataError(
            f"pad can't pad the column {column!r}, since it is {type(samples[wrong][column]).__name__} in sample "
            f"{wrong + 1} of the mini-batch, not numbers of shape (length, …). To fix, convert it, or don't pad it."
        )
    full = [one for one in found if len(one)]  # an empty list has no dtype of its own
    first = full[0] if full else found[0]
    for index, one in enumerate(found):
        if len(one) and (one.shape[1:] != first.shape[1:] or one.dtype != first.dtype):
            raise DataError(
                f"pad can't pad the column {column!r}, since samples differ in more than their first dimension: "
                f"{first.dtype} of shape {tuple(first.shape)}, and {one.dtype} of shape {tuple(one.shape)} in sample "
                f"{index + 1}. To fix, crop or resize the other dimensions before."
            )
    return [one if len(one) else first[:0] for one in found]


def _tensor(value: Any) -> torch.Tensor | None:
    if isinstance(value, torch.Tensor):
        return value
    try:
        return torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else torch.tensor(value, device="cpu")
    except (TypeError, ValueError, RuntimeError):
        return None


def _mask(tensors: Mapping[str, Sequence[torch.Tensor]]) -> torch.Tensor:
    lengths = {column: [len(one) for one in values] for column, values in tensors.items()}
    (first, of_first), *others = lengths.items()
    for column, found in others:
        for index, (one, other) in enumerate(zip(of_first, found, strict=True)):
            if one != other:
                raise DataError(
                    f"pad can't make one mask for {first!r} and {column!r}, since sample {index + 1} of the mini-batch "
                    f"has the lengths {one} and {other}. To fix, pass mask=None and make the masks yourself, or pad "
                    "columns of equal lengths only."
                )
    return torch.arange(max(of_first), device="cpu") < torch.tensor(of_first, device="cpu")[:, None]
