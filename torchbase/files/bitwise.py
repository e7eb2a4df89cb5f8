"""Compares nested tensors bit by bit."""

from collections.abc import Mapping
from typing import Any

import torch


def different_values(first: Any, second: Any, path: str = "") -> list[str]:
    """Compares two nested structures of tensors and plain values bit by bit. NaN equals itself.

    Args:
        first: Dictionaries, lists, tuples, tensors and plain values.
        second: The structure to compare with.
        path: The path of both structures, a prefix of the returned paths.

    Returns:
        The paths of the values that differ, e.g. ``optimizer.state.0.exp_avg``.
    """
    pairs: list[tuple[Any, Any, Any]]
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        keys = [*first, *(key for key in second if key not in first)]
        missing = object()
        pairs = [(key, first.get(key, missing), second.get(key, missing)) for key in keys]
    elif isinstance(first, list | tuple) and isinstance(second, list | tuple) and len(first) == len(second):
        pairs = [(number, a, b) for number, (a, b) in enumerate(zip(first, second, strict=True))]
    else:
        return [] if _is_same(first, second) else [path]
    return [one for key, a, b in pairs for one in different_values(a, b, f"{path}.{key}" if path else str(key))]


def _own_rows(tensor: Any) -> torch.Tensor:
    """Returns the rows of this process of a tensor that is sharded over several; else the tensor."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor  # type: ignore[no-any-return]


def _is_same(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        if first.dtype != second.dtype or first.shape != second.shape or first.layout != second.layout:
            return False
        if first.layout is not torch.strided:
            return torch.equal(first.to_dense(), second.to_dense())
        first, second = _own_rows(first), _own_rows(second)
        return torch.equal(first.reshape(-1).view(torch.uint8), second.reshape(-1).view(torch.uint8))
    return type(first) is type(second) and (first == second or (first != first and second != second))
