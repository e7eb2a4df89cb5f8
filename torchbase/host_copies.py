"""Copies of tensors on the host, for a thread that writes them while the training changes the originals."""

import copy
from typing import Any

import torch


class HostCopies:
    """Copies the same nest of tensors again and again into memory of its own.

    The memory is used again, because fresh memory costs several times the copy: the operating system hands it out page
    by page when it is first written.
    """

    def __init__(self) -> None:
        self._memory: dict[tuple[object, ...], torch.Tensor] = {}

    def of(self, value: Any) -> Any:
        """Copies a value; the copy before it is overwritten.

        Args:
            value: Tensors on any device and plain values, in any nesting of dictionaries, lists and tuples.

        Returns:
            The same, with contiguous tensors on the host in place of the tensors.
        """
        used: dict[tuple[object, ...], torch.Tensor] = {}
        copied = self._copy(value, (), used)
        self._memory = used
        if any(one.is_pinned() for one in used.values()):
            torch.accelerator.synchronize()  # once for all of the copies, which didn't wait
        return copied

    def _copy(self, value: Any, path: tuple[object, ...], used: dict[tuple[object, ...], torch.Tensor]) -> Any:
        if isinstance(value, torch.Tensor):
            if value.layout is not torch.strided or value.is_quantized:
                return value.detach().clone().cpu()
            used[path] = self._filled(value.detach(), path)
            return used[path]
        if isinstance(value, dict):
            copies = copy.copy(value)  # keeps what a module's state_dict carries beside its items
            copies.update({key: self._copy(one, (*path, key), used) for key, one in value.items()})
            return copies
        if isinstance(value, list | tuple):
            items = [self._copy(one, (*path, number), used) for number, one in enumerate(value)]
            return items if isinstance(value, list) else tuple(items)
        return copy.copy(value) if isinstance(value, set | bytearray) else value

    def _filled(self, tensor: torch.Tensor, path: tuple[object, ...]) -> torch.Tensor:
        memory = self._memory.get(path)
        if memory is None or memory.shape != tensor.shape or memory.dtype != tensor.dtype:
            memory = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
        return memory.copy_(tensor, non_blocking=tensor.is_cuda)
