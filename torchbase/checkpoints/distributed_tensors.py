"""The tensors of a sharded run in checkpoints: what each process saves of them, and how they are restored.

What imports `torch.distributed.tensor`, which takes time, is imported only if there are such tensors.
"""

from typing import Any

import torch

from torchbase.checkpoints.saved_tensors import Piece, SavedTensor
from torchbase.distributed.shards import is_shard
from torchbase.files.nested import map_leaves


def distributed_parameter(optimizer: torch.optim.Optimizer | None) -> torch.Tensor | None:
    """Returns the first distributed parameter of an optimizer; None if the run isn't sharded.

    Args:
        optimizer: The optimizer. It has the sharded parameters also while the network has whole ones.
    """
    groups = [] if optimizer is None else optimizer.param_groups
    return next((one for group in groups for one in group["params"] if is_shard(one)), None)


def share_of(tensor: torch.Tensor) -> torch.Tensor | Piece:
    """Returns the piece of a tensor that this process holds, or the whole tensor if each process holds it.

    Args:
        tensor: The tensor.

    Raises:
        ProcessError: If it is sharded in another way than by its rows.
    """
    if not is_shard(tensor):
        return tensor
    from torchbase.distributed.pieces import local_part

    rows, first = local_part(tensor)
    return rows if first is None else Piece(rows, first, tuple(tensor.shape))


def as_in(target: Any, saved: Any) -> Any:
    """Returns a saved tensor as the one in whose place it is restored: whole, or distributed like it.

    Args:
        target: A tensor. Any other value means that the place is unknown, or isn't distributed.
        saved: A tensor or a saved tensor. Any other value is returned as it is.

    Returns:
        A tensor. Of a saved tensor, no more is read than this process holds.
    """
    if isinstance(saved, SavedTensor):
        if is_shard(target) and (saved.is_sharded or saved.shape == tuple(target.shape)):
            return _distributed(saved, target)
        return saved.whole()
    if isinstance(saved, torch.Tensor) and is_shard(target) and not is_shard(saved):
        return _distributed(saved, target) if saved.shape == target.shape else saved
    return saved


def restored(state: Any, distributed: torch.Tensor | None) -> Any:
    """Returns the saved state of a hook as the hook had it: tensors that were sharded are sharded, if the run is.

    Args:
        state: The state, with tensors or saved tensors.
        distributed: A distributed parameter of the run; None if it isn't sharded.
    """

    def restore(_: Any, value: Any) -> Any:
        is_whole = not isinstance(value, SavedTensor) or not value.is_sharded
        return as_in(None if is_whole else distributed, value)

    return map_leaves(state, restore)


def _distributed(saved: torch.Tensor | SavedTensor, target: torch.Tensor) -> torch.Tensor:
    from torchbase.distributed.pieces import distributed_like

    def read(first: int, end: int) -> torch.Tensor:
        return saved.rows(first, end) if isinstance(saved, SavedTensor) else saved[first:end]

    return distributed_like(target, read, tuple(saved.shape))
