"""Copies of mini-batches to an accelerator, started before the mini-batches are needed."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import torch
from torch.nn.utils.rnn import PackedSequence

from torchbase.data.mappings import with_values


class Mover(Protocol):
    """An object that moves mini-batches to a device in two steps."""

    def start(self, batch: Any) -> Any:
        """Starts to move a mini-batch, without waiting for the end."""

    def finish(self, batch: Any) -> Any:
        """Makes later operations on the device wait until the mini-batch is complete."""


class StreamMover:
    """A mover that copies to an accelerator on a separate stream, while the device computes.

    Copies from pinned memory don't block the host. The current stream of the device waits for the copy.

    Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-streams
    """

    def __init__(self, device: torch.device) -> None:
        """Creates the stream.

        Args:
            device: An accelerator for which `has_streams` returns True.
        """
        self._device = device
        self._module: Any = torch.get_device_module(device)
        self._stream = self._module.Stream(device)

    def start(self, batch: Any) -> Any:
        """Starts to copy a mini-batch.

        Args:
            batch: Nested dictionaries, lists and tuples of tensors on the host and other objects.

        Returns:
            The same structure with the tensors on the device.
        """
        with self._module.stream(self._stream):
            return map_tensors(batch, lambda tensor: tensor.to(self._device, non_blocking=True))

    def finish(self, batch: Any) -> Any:
        """Makes the current stream of the device wait for the copy.

        Args:
            batch: The return value of `start`.

        Returns:
            The same mini-batch.
        """
        current = self._module.current_stream(self._device)
        current.wait_stream(self._stream)

        def record_use(tensor: torch.Tensor) -> torch.Tensor:
            # Otherwise the allocator could reuse the memory for the next copy while it is still in use.
            if tensor.device.type == self._device.type:
                tensor.record_stream(current)
            return tensor

        return map_tensors(batch, record_use)


def has_streams(device: torch.device) -> bool:
    """Returns whether a device can copy while it computes.

    Args:
        device: The device of the run.
    """
    return device.type in ("cuda", "xpu")


def prefetch(batches: Iterable[Any], mover: Mover) -> Iterator[Any]:
    """Moves each mini-batch to the device while the previous mini-batch is in use.

    Args:
        batches: The mini-batches.
        mover: The object that moves the mini-batches.

    Yields:
        The mini-batches on the device.
    """
    started: list[Any] = []
    for batch in batches:
        started.append(mover.start(batch))
        if len(started) > 1:
            yield mover.finish(started.pop(0))
    for batch in started:
        yield mover.finish(batch)


def map_tensors(value: Any, function: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Applies a function to each tensor in a nested structure.

    Args:
        value: Nested dictionaries, lists and tuples of tensors and other objects.
        function: The function. Its return value replaces the tensor.

    Returns:
        The same structure with the return values. Nested and sparse tensors, packed sequences and other objects are
        unchanged.
    """
    if isinstance(value, torch.Tensor):
        return value if value.is_nested or value.layout is not torch.strided else function(value)
    if isinstance(value, PackedSequence):  # a tuple of tensors, of which one has to stay on the host
        return value
    if isinstance(value, Mapping):
        return with_values(value, {name: map_tensors(item, function) for name, item in value.items()})
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_tensors(item, function) for item in value))
    if isinstance(value, list | tuple):
        return type(value)(map_tensors(item, function) for item in value)
    return value
