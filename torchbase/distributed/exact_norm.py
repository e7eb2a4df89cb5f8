"""The norm of gradients, with the same bits whatever number of processes holds them.

A reduction of a library adds in an order that depends on the length of a tensor and its place in memory. Here, halves
are added to each other element by element, first within each row, then over the rows. Shards are whole rows.
"""

from collections.abc import Sequence

import torch

from torchbase.distributed.processes import Processes
from torchbase.distributed.shards import is_shard, local_of


def exact_norm(tensors: Sequence[torch.Tensor], processes: Processes) -> torch.Tensor:
    """Returns the 2-norm of all elements of tensors. If one is sharded, all processes have to call it.

    Args:
        tensors: The tensors, the same on each process, or shards of the same.
        processes: The processes.

    Returns:
        The norm, shape (), in float32, or in float64 if a tensor is.
    """
    if not tensors:
        return torch.zeros((), device="cpu")
    device = local_of(tensors[0]).device
    rows = [_sum_of_squares_by_row(local_of(one)).to(device) for one in tensors]
    dtype = torch.float64 if any(one.dtype == torch.float64 for one in rows) else torch.float32
    rows = _gather_shards(tensors, [one.to(dtype) for one in rows], processes)
    return _fold(torch.cat([_fold(one[None]) for one in rows])[None]).sqrt().reshape(())


def _gather_shards(
    tensors: Sequence[torch.Tensor], rows: list[torch.Tensor], processes: Processes
) -> list[torch.Tensor]:
    shards = [position for position, one in enumerate(tensors) if is_shard(one)]
    if not shards:
        return rows
    lengths = [-(-len(tensors[position]) // processes.count) for position in shards]
    own = rows[shards[0]].new_zeros(sum(lengths))
    for piece, position in zip(torch.split(own, lengths), shards, strict=True):
        piece[: len(rows[position])] = rows[position]
    received = processes.gather_tensor(own)  # one exchange for all
    for pieces, position in zip(torch.split(received, lengths, dim=1), shards, strict=True):
        rows[position] = pieces.reshape(-1)[: len(tensors[position])]
    return rows


def _sum_of_squares_by_row(tensor: torch.Tensor) -> torch.Tensor:
    values = tensor.detach()
    if values.is_sparse:
        values = values.coalesce().values()
    if values.is_complex():
        values = torch.view_as_real(values.resolve_conj())
    values = values.reshape(len(values), -1) if values.dim() and values.numel() else values.reshape(-1, 1)
    values = values if values.dtype == torch.float64 else values.float()
    return _fold(values * values)


def _fold(rows: torch.Tensor) -> torch.Tensor:
    """Adds the columns of rows, halves to halves. The rows are changed."""
    if rows.shape[1] == 0:
        return rows.new_zeros(len(rows))
    while (length := rows.shape[1]) > 1:
        half = (length + 1) // 2
        rows[:, : length - half] += rows[:, half:]
        rows = rows[:, :half]
    return rows[:, 0]
