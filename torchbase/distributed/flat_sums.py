"""Sums of many tensors over processes, computed in a few large tensors."""

from collections.abc import Callable, Iterator, Sequence

import torch

BYTES_AT_ONCE = 2**26
# Adding it changes no number, not even the sign of a zero.
_NEUTRAL = -0.0

Exchange = Callable[[torch.Tensor], torch.Tensor]


class FlatSums:
    """Copies tensors into flat ones, adds these over all processes, and returns views of the sums.

    At the end of a flat tensor are two numbers for each tensor: whether the process has a dense one, and a sparse one.
    Their sums say whether any process has.
    """

    def __init__(self, processes: int) -> None:
        """Sets the number of processes.

        Args:
            processes: The number of processes. A flat tensor has as many rows.
        """
        self._processes = processes

    def add(
        self, tensors: Sequence[torch.Tensor | None], like: Sequence[torch.Tensor], exchange: Exchange
    ) -> tuple[list[torch.Tensor | None], list[int]]:
        """Adds the dense tensors of all processes.

        Args:
            tensors: The tensors of this process; None where it has none.
            like: Tensors with the shapes, dtypes and devices of ``tensors``.
            exchange: Takes a flat tensor with a row per process, and returns the sum over all processes. It is called
                once for each kind of tensors, in the same order on each process.

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
                    sums[position] = _in_layout_of(of_group[place], values[place])
        return sums, sorted(sparse)

    def _flatten(self, tensors: Sequence[torch.Tensor | None], like: Sequence[torch.Tensor]) -> torch.Tensor:
        lengths = [one.numel() for one in like]
        end, length = sum(lengths), sum(lengths) + 2 * len(like)
        padded = -(-length // self._processes) * self._processes
        flat = torch.empty(padded, dtype=like[0].dtype, device=like[0].device)
        is_dense = [tensor is not None and not tensor.is_sparse for tensor in tensors]
        is_sparse = [tensor is not None and tensor.is_sparse for tensor in tensors]
        for piece, tensor, has_values in zip(torch.split(flat[:end], lengths), tensors, is_dense, strict=True):
            if tensor is None or not has_values:
                piece.fill_(_NEUTRAL)
            else:
                piece.copy_(tensor.reshape(-1))
        flags = [*is_dense, *is_sparse, *[False] * (padded - length)]
        flat[end:] = torch.tensor(flags, dtype=flat.dtype, device=flat.device)
        return flat.view(self._processes, -1)


def _in_layout_of(like: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    # As a gradient is in one process: a norm adds the numbers in the order of the memory, such as channels_last.
    shaped = values.view(like.shape)
    return shaped if like.is_contiguous() else torch.empty_like(like, requires_grad=False).copy_(shaped)


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
