"""Weights as safetensors: https://huggingface.co/docs/safetensors."""

from collections.abc import Mapping
from typing import Any, BinaryIO

import torch

from torchbase.errors import RunDirectoryError, list_first
from torchbase.optional_packages import load


def write_weights(state: Mapping[str, Any], file: BinaryIO, description: str) -> None:
    """Writes weights. A tensor that is tied under several names is written under each of them.

    Args:
        state: What the ``state_dict`` of the network returned.
        file: An open file.
        description: What the file says of its run, in JSON.

    Raises:
        RunDirectoryError: If the format can't hold something in the state.
    """
    others = [f"{name} ({_describe(value)})" for name, value in state.items() if not _is_dense(value)]
    if others:
        raise RunDirectoryError(
            f"safetensors holds dense tensors only, and the network has others: {list_first(others)}. To fix, export "
            "a program, to a file that ends with .pt2."
        )
    safetensors = load("safetensors", "safetensors.torch")
    try:
        content = safetensors.save(_apart(state), {"format": "pt", "torchbase": description})
    except (KeyError, ValueError) as error:  # of a dtype that it doesn't know
        raise RunDirectoryError(
            f"safetensors {load('safetensors').__version__} can't hold the network: {type(error).__name__}: {error}. "
            "To fix, install a newer version, or export a program, to a file that ends with .pt2."
        ) from error
    file.write(content)


def _apart(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns the tensors, each contiguous and in memory of its own, as the format requires."""
    seen: set[int] = set()
    found = {}
    for name, tensor in state.items():
        memory = tensor.untyped_storage().data_ptr()
        found[name] = tensor.clone() if memory in seen else tensor
        found[name] = found[name].contiguous()
        seen.add(memory)
    return found


def _is_dense(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.layout is torch.strided and not value.is_quantized


def _describe(value: Any) -> str:
    return str(value.layout) if isinstance(value, torch.Tensor) else type(value).__name__
