"""The outputs of predictions as columns of a dataset."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from torchbase.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset


def columns_of(outputs: Mapping[str, Any], samples: int, keys: Sequence[str] | None) -> dict[str, Any]:
    """Returns the outputs of a mini-batch that can be columns: those with one value per sample.

    Args:
        outputs: The outputs by name.
        samples: The number of samples.
        keys: The names of the outputs to return; None for all that can be columns.

    Returns:
        Arrays and lists by name.

    Raises:
        DataError: If an output among ``keys`` is missing, or can't be a column.
    """
    columns = {name: _as_column(value) for name, value in outputs.items() if keys is None or name in keys}
    fitting = {name: column for name, column in columns.items() if column is not None and len(column) == samples}
    for name in keys if keys is not None else ():
        if name not in fitting:
            reason = "it is missing" if name not in outputs else "it doesn't have one value per sample"
            raise DataError(
                f"The output {name!r} of forward_pass can't be a column: {reason}. To fix, choose among "
                f"{', '.join(map(repr, outputs))}."
            )
    return fitting


def _as_column(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = value if value.layout is torch.strided else value.to_dense()
        is_unknown_to_numpy = value.dtype == torch.bfloat16 or (value.is_floating_point() and value.itemsize == 1)
        value = value.float() if is_unknown_to_numpy else value
        return value.resolve_conj().resolve_neg().numpy() if value.dim() else None
    return list(value) if isinstance(value, list | tuple) else None


def concatenate(parts: Sequence[Mapping[str, Any]]) -> "Dataset":
    """Returns a dataset of the columns of all mini-batches.

    Args:
        parts: The columns of each mini-batch, with the same names.

    Raises:
        DataError: If a column can't be stored, or changes its type between mini-batches.
    """
    from datasets import Dataset, concatenate_datasets

    found = []
    for part in parts:
        try:
            found.append(Dataset.from_dict(dict(part)))
        except (TypeError, ValueError, NotImplementedError, OverflowError) as error:
            _raise_for_column(part, error)
            raise
    try:
        return concatenate_datasets(found)
    except ValueError as error:
        types = {name: list(dict.fromkeys(str(one.features[name]) for one in found)) for name in found[0].features}
        changing = [f"{name!r} ({', then '.join(kinds)})" for name, kinds in types.items() if len(kinds) > 1]
        raise DataError(
            f"These outputs of forward_pass change their type between mini-batches: {'; '.join(changing) or error}. To "
            "fix, return one type, or choose other outputs with keys."
        ) from error


def _raise_for_column(columns: Mapping[str, Any], error: Exception) -> None:
    from datasets import Dataset

    for name, column in columns.items():
        try:
            Dataset.from_dict({name: column})
        except type(error) as reason:
            kind = column.dtype if hasattr(column, "dtype") else type(column).__name__
            raise DataError(
                f"The output {name!r} of forward_pass, of type {kind}, can't be a column of a dataset: {reason}. To "
                "fix, convert it (complex numbers: torch.view_as_real), or choose other outputs with keys."
            ) from error
