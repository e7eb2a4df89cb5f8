"""Sums of many tensors over processes, computed in a few large tensors."""

from collections.abc import Callable, Iterator, Sequence

import torch

BYTES_AT_ONCE = 2**26
# Adding it changes no number, not even the sign of a zero.
_NEUTRAL = -0.0

Exchange = Callable[[torch.Tensor, Sequence[int]], torch.Tensor]


class FlatSums:
    """Copies tensors into flat ones, adds these over all processes, and returns views of the sums.

    At the end of a flat tensor are two numbers for each tensor: whether the process has a dense one, and a sparse one.
    Their sums say whether any process has.
    """

    def __init__(self, processes: int, exchange: Exchange) -> None:
        """Sets how a flat tensor is added.

        Args:
            processes: The number of processes. The length of a flat tensor is a multiple of it.
            exchange: Takes a flat tensor and the level of each process in the tree. Returns the sum over all
                processes.
        """
        self._processes, self._exchange = processes, exchange

    def add(
        self, tensors: Sequence[torch.Tensor | None], like: Sequence[torch.Tensor], levels: Sequence[int]
    ) -> tuple[list[torch.Tensor | None], list[int]]:
        """Adds the dense tensors of all processes.

        Args:
            tensors: The tensors of this process; None where it has none.
            like: Tensors with the shapes, dtypes and devices of ``tensors``.
            levels: The level of each process in the tree.

        Returns:
            The sums, and the positions of tensors that are sparse on some process, whose sums are missing.
        """
        sums: list[torch.Tensor | None] = [None] * len(tensors)
        sparse: list[int] = []
        for positions in _group(like):
            flat = self._flatten([tensors[one] for one in positions], [like[one] for one in positions])
            total = self._exchange(flat, levels)
            shapes = [like[one].shape for one in positions]
            values, has_dense, has_sparse = _split(total, [shape.numel() for shape in shapes])
            for position, value, shape, is_dense, is_sparse in zip(
                positions, values, shapes, has_dense, has_sparse, strict=True
            ):
                if is_sparse:
                    sparse.append(position)
                elif is_dense:
                    sums[position] = value.view(shape)
        return sums, sorted(sparse)

    def _flatten(self, tensors: Sequence[torch.Tensor | None], like: Sequence[torch.Tensor]) -> torch.Tensor:
        lengths = [one.numel() for one in like]
        length = sum(lengths) + 2 * len(like)
        padded = -(-length // self._processes) * self._processes
        flat = torch.empty(padded, dtype=like[0].dtype, device=like[0].device)
        pieces = torch.split(flat[: sum(lengths)], lengths)
        for piece, tensor in zip(pieces, tensors, strict=True):
            if tensor is None or tensor.is_sparse:
                piece.fill_(_NEUTRAL)
            else:
                piece.copy_(tensor.reshape(-1))
        flags = [tensor is not None and not tensor.is_sparse for tensor in tensors]
        flags += [tensor is not None and tensor.is_sparse for tensor in tensors]
        flags += [False] * (padded - length)
        flat[sum(lengths) :] = torch.tensor(flags, dtype=flat.dtype, device=flat.device)
        return flat


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
