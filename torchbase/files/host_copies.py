"""Copies of tensors on the host, which a thread can write while the training changes the originals."""

import copy
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch

_UNCHANGING = frozenset((bool, int, float, str, type(None)))


class HostCopies:
    """Copies the same nested tensors repeatedly into its own memory.

    The memory is reused, because new memory costs several times as much as the copy: the operating system provides it
    page by page when it is first written. For the same reason, memory can be reserved before the first copy.
    """

    def __init__(self) -> None:
        self._memory: dict[tuple[object, ...], torch.Tensor] = {}

    def reserve(self, value: Any) -> Callable[[], None]:
        """Allocates the memory for a value. Only the shapes and types of its tensors matter.

        Args:
            value: A value like those that `of` will copy.

        Returns:
            A function that touches the memory, which takes most of the time. Call it once before `of`, in a thread if
            you like.
        """
        self._reserve(value, ())
        return partial(_touch, tuple(self._memory.values()))

    def of(self, value: Any) -> Any:
        """Copies a value and overwrites the previous copy.

        Args:
            value: Tensors on any device and plain values, in any nesting of dictionaries, lists and tuples.

        Returns:
            The copy. All its tensors are contiguous and on the host.
        """
        used: dict[tuple[object, ...], torch.Tensor] = {}
        copied = self._copy(value, (), used)
        self._memory = used
        if any(one.is_pinned() for one in used.values()):
            torch.accelerator.synchronize()  # once for all copies, which are asynchronous
        return copied

    def _copy(self, value: Any, path: tuple[object, ...], used: dict[tuple[object, ...], torch.Tensor]) -> Any:
        if type(value) in _UNCHANGING:  # most values: a random state has hundreds of numbers
            return value
        if isinstance(value, torch.Tensor):
            if value.layout is not torch.strided or value.is_quantized:
                return value.detach().clone().cpu()
            used[path] = self._memory_for(value, path).copy_(value.detach(), non_blocking=value.is_cuda)
            return used[path]
        if isinstance(value, dict):
            copies = copy.copy(value)  # keeps the metadata of a module's state_dict
            for key, one in value.items():  # not by update, to which a Counter adds
                copies[key] = self._copy(one, (*path, key), used)
            return copies
        if isinstance(value, list | tuple):
            items = [self._copy(one, (*path, number), used) for number, one in enumerate(value)]
            return items if isinstance(value, list) else tuple(items)
        return copy.copy(value) if isinstance(value, set | bytearray) else value

    def _reserve(self, value: Any, path: tuple[object, ...]) -> None:
        if type(value) in _UNCHANGING:
            return
        if isinstance(value, torch.Tensor):
            if value.layout is torch.strided and not value.is_quantized:
                self._memory[path] = self._memory_for(value, path)
        elif isinstance(value, dict | list | tuple):
            for key, one in value.items() if isinstance(value, dict) else enumerate(value):
                self._reserve(one, (*path, key))

    def _memory_for(self, tensor: torch.Tensor, path: tuple[object, ...]) -> torch.Tensor:
        memory = self._memory.get(path)
        if memory is not None and memory.shape == tensor.shape and memory.dtype == tensor.dtype:
            return memory
        return torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=tensor.is_cuda)


def _touch(memory: Iterable[torch.Tensor]) -> None:
    for one in memory:
        one.zero_()
