"""Sums of many tensors over processes, computed in a few large tensors."""

from collections.abc import Callable, Iterator, Sequence

import torch

from torchbase.distributed.reused_memory import ReusedMemory

BYTES_AT_ONCE = 2**26
# Adding it changes no number, not even the sign of a zero.
_NEUTRAL = -0.0

Exchange = Callable[[torch.Tensor], torch.Tensor]


class FlatSums:
    """Copies tensors into flat ones, adds these over all processes, and copies the sums back.

    At the end of a flat tensor are two numbers for each tensor: whether the process has a dense one, and a sparse one.
    Their sums say whether any process has.
    """

    def __init__(self, processes: int) -> None:
        """Sets the number of processes.

        Args:
            processes: The number of processes. A flat tensor has as many rows.
        """
        self._processes, self._memory = processes, ReusedMemory()

    def add(
        self, tensors: Sequence[torch.Tensor | None], like: Sequence[torch.Tensor], exchange: Exchange
    ) -> tuple[list[torch.Tensor | None], list[int]]:
        """Adds the dense tensors of all processes.

        Args:
            tensors: The tensors of this process; None where it has none. Sums are written to them.
            like: Tensors with the shapes, dtypes and devices of ``tensors``.
            exchange: Takes a flat tensor with a row per process, and returns the sum over all processes. It is called
                once for each kind of tensors, in the same order on each process. It may compute in the tensor.

        Returns:
            The sums, and the positions of tensors that are sparse on some process, whose sums are missing.
        """
        sums: list[torch.Tensor | None] = [None] * len(tensors)
        sparse: list[int] = []
        for positions in _group(like):
            of_group = [like[one] for one in positions]
            total = exchange(self._flatten([tensors[one] for one in positions], of_group)).view(-1)
            values, has_dense, has_sparse = _split(total, [one.numel() for one in of_group])
            for place, position in enumerate(positions):
                if has_sparse[place]:
                    sparse.append(position)
                elif has_dense[place]:
                    sums[position] = _place_for(tensors[position], of_group[place]).copy_(
                        values[place].view(of_group[place].shape)
                    )
        return sums, sorted(sparse)

    def _flatten(self, tensors: Sequence[torch.Tensor | None], like: Sequence[torch.Tensor]) -> torch.Tensor:
        is_dense = [tensor is not None and not tensor.is_sparse for tensor in tensors]
        is_sparse = [tensor is not None and tensor.is_sparse for tensor in tensors]
        length = sum(one.numel() for one in like) + 2 * len(like)
        padding = -length % self._processes
        neutral = torch.tensor(_NEUTRAL, dtype=like[0].dtype, device=like[0].device)
        pieces = [
            neutral.expand(one.numel()) if tensor is None or tensor.is_sparse else tensor.detach().reshape(-1)
            for tensor, one in zip(tensors, like, strict=True)
        ]
        flags = neutral.new_tensor([*is_dense, *is_sparse, *[False] * padding])
        flat = self._memory.tensor("flat", neutral, self._processes, (length + padding) // self._processes)
        torch.cat([*pieces, flags], out=flat.view(-1))
        return flat


def _place_for(tensor: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
    """Returns the tensor of this process if a sum can be written to it, else a new one."""
    if tensor is None or tensor.is_sparse or tensor.stride() != like.stride():
        return torch.empty_like(like, requires_grad=False)
    return tensor.detach()


def _split(total: torch.Tensor, lengths: Sequence[int]) -> tuple[Sequence[torch.Tensor], list[bool], list[bool]]:
    count, end = len(lengths), sum(lengths)
    flags = total[end : end + 2 * count].bool().tolist()
    return torch.split(total[:end], list(lengths)), flags[:count], flags[count:]


def _group(like: Sequence[torch.Tensor]) -> Iterator[list[int]]:
    """Yields the positions of tensors of one dtype and device, up to `BYTES_AT_ONCE`."""
    groups: dict[tuple[torch.dtype, torch.device], list[int]] = {}
    sizes: dict[tuple[torch.dtype, torch.device], int] = {}
    for position, tensor in enumerate(like):
        kind = tensor.dtype, tensor.device
        if kind in groups and sizes[kind] + tensor.nbytes > BYTES_AT_ONCE:
            yield groups.pop(kind)
        if kind not in groups:
            groups[kind], sizes[kind] = [], 0
        groups[kind].append(position)
        sizes[kind] += tensor.nbytes
    yield from groups.values()
