"""Hashes of tensors and plain values: equal for equal bits, on every machine and in every process."""

import struct
from collections.abc import Mapping
from typing import Any

import torch
import xxhash

ALGORITHM = "xxh3_128"
_TEXTS = (bool, int, str, type(None), torch.dtype, torch.device, torch.layout, torch.memory_format)


class UnhashableError(TypeError):
    """A value is of a kind that `hash_of` can't hash."""


def hash_of(value: Any) -> bytes:
    """Hashes a value by its exact bits: NaN by its payload, and -0.0 differs from 0.0.

    Args:
        value: Tensors of any layout on the CPU and plain values, in any nesting of dictionaries, lists, tuples and
            sets. The order of a dictionary doesn't count, nor whether a sequence is a list or a tuple.

    Returns:
        The 16 bytes of the 128 bits of XXH3. They show any difference that wasn't made to deceive.

    Raises:
        UnhashableError: If a value is of another kind.
    """
    hasher = xxhash.xxh3_128()
    _add(hasher, value)
    return hasher.digest()


def _add(hasher: Any, value: Any) -> None:
    if isinstance(value, torch.Tensor):
        _add_tensor(hasher, value.detach())
    elif isinstance(value, _TEXTS):
        hasher.update(f"{type(value).__name__} {value!r}\n".encode())
    elif isinstance(value, float):
        hasher.update(b"float\n" + struct.pack("<d", value))
    elif isinstance(value, complex):
        hasher.update(b"complex\n" + struct.pack("<dd", value.real, value.imag))
    elif isinstance(value, bytes | bytearray):
        hasher.update(f"bytes {len(value)}\n".encode())
        hasher.update(value)
    elif isinstance(value, Mapping):
        hasher.update(f"dictionary {len(value)}\n".encode())
        for digest in sorted(hash_of((key, one)) for key, one in value.items()):
            hasher.update(digest)
    elif isinstance(value, list | tuple):
        hasher.update(f"list {len(value)}\n".encode())
        for one in value:
            _add(hasher, one)
    elif isinstance(value, set | frozenset):
        hasher.update(f"set {len(value)}\n".encode())
        for digest in sorted(map(hash_of, value)):
            hasher.update(digest)
    else:
        raise UnhashableError(f"a value of type {type(value).__qualname__} can't be hashed")


def _add_tensor(hasher: Any, tensor: torch.Tensor) -> None:
    hasher.update(f"tensor {tensor.dtype} {tuple(tensor.shape)} {tensor.layout}\n".encode())
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.layout is torch.strided:
        flat = tensor.resolve_conj().resolve_neg().contiguous().reshape(-1)
        hasher.update(flat.view(torch.uint8).numpy())
        return
    coordinates = (tensor if tensor.layout is torch.sparse_coo else tensor.to_sparse()).coalesce()
    _add_tensor(hasher, coordinates.indices())
    _add_tensor(hasher, coordinates.values())
