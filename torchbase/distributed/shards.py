"""Shards: the parts that processes have of a tensor that none of them holds as a whole.

The network of a sharded run has `torch.distributed.tensor.DTensor` in place of tensors. Nothing here imports them,
since most runs have none.
"""

from typing import Any

import torch


def is_shard(tensor: object) -> bool:
    """Whether a tensor is spread over the processes.

    Args:
        tensor: A tensor, or anything else.
    """
    return hasattr(tensor, "to_local")


def local_of(tensor: Any) -> torch.Tensor:
    """Returns what this process holds of a tensor: some rows of it, in the same memory, or all of it.

    Args:
        tensor: A tensor, which may be spread over the processes.
    """
    if not is_shard(tensor):
        return tensor  # type: ignore[no-any-return]
    with torch.no_grad():
        return tensor.to_local()  # type: ignore[no-any-return]


def whole_of(tensor: Any) -> torch.Tensor:
    """Returns a whole tensor. If it is spread over the processes, all of them have to call it.

    Args:
        tensor: The tensor.
    """
    if not is_shard(tensor):
        return tensor  # type: ignore[no-any-return]
    with torch.no_grad():
        return tensor.full_tensor()  # type: ignore[no-any-return]
