"""The rows of a sharded tensor (`DTensor`) that this process holds, and sharded tensors of rows that were read."""

from collections.abc import Callable, Sequence

import torch
from torch.distributed.tensor import DTensor, Replicate, Shard

from torchbase.distributed.shards import local_of
from torchbase.errors import ProcessError


def local_part(tensor: torch.Tensor) -> tuple[torch.Tensor, int | None]:
    """Returns what this process holds of a tensor. Nothing is sent.

    Args:
        tensor: Any tensor.

    Returns:
        The rows that this process holds, a view, and the number of the first of them; the whole tensor and None if each
        process holds all of it.

    Raises:
        ProcessError: If the tensor is sharded in another way than by its rows.
    """
    if not isinstance(tensor, DTensor):
        return tensor, None
    if tuple(tensor.placements) == (Shard(0),):
        return local_of(tensor), _rows_of_process(tensor, len(tensor))[0]
    if _is_replicated(tensor):
        return local_of(tensor), None
    raise ProcessError(
        f"A tensor of shape {tuple(tensor.shape)} is sharded as {tuple(tensor.placements)}, and a checkpoint can hold "
        "tensors that are sharded by their rows over all processes, (Shard(dim=0),). To fix, shard it so, or save its "
        "full_tensor()."
    )


def distributed_like(
    tensor: torch.Tensor, read: Callable[[int, int], torch.Tensor], shape: Sequence[int]
) -> torch.Tensor:
    """Returns a tensor that is distributed over the same processes as another one, and in the same way.

    Args:
        tensor: The other tensor, a `DTensor`.
        read: Takes the first row and the end of the rows, and returns them. It is called for those of this process.
        shape: The shape of the whole tensor.

    Returns:
        The tensor, of which this process holds its rows, on the device of ``tensor``.
    """
    if not isinstance(tensor, DTensor):
        raise ProcessError(f"A tensor of shape {tuple(tensor.shape)} isn't distributed, so no other can be like it.")
    first, end = (0, shape[0]) if _is_replicated(tensor) else _rows_of_process(tensor, shape[0])
    return DTensor.from_local(
        read(first, end).to(local_of(tensor).device),
        tensor.device_mesh,
        tensor.placements,
        run_check=False,
        shape=torch.Size(shape),
        stride=torch.empty(*shape, device="meta").stride(),
    )


def _is_replicated(tensor: DTensor) -> bool:
    return all(one == Replicate() for one in tensor.placements)


def _rows_of_process(tensor: DTensor, count: int) -> tuple[int, int]:
    # As torch.chunk does: all have as many rows as the first, except the last ones.
    size = -(-count // tensor.device_mesh.size())
    first = min(tensor.device_mesh.get_local_rank() * size, count)
    return first, min(first + size, count)
