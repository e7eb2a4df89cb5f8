"""Mini-batches that are on their way to an accelerator before they are needed."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import torch


class Mover(Protocol):
    """Brings mini-batches somewhere else, in two steps."""

    def start(self, batch: Any) -> Any:
        """Begins to bring a mini-batch over, and doesn't wait for it."""

    def finish(self, batch: Any) -> Any:
        """Makes sure that what is done next finds what `start` gave whole."""


class StreamMover:
    """Copies to an accelerator on a stream of its own, beside what is computed there.

    Tensors that stand in pinned memory are copied without the host waiting for it. What computes on the device next is
    told to wait for the copy, not the host.

    Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-streams
    """

    def __init__(self, device: torch.device) -> None:
        """Makes the stream.

        Args:
            device: The accelerator; see `has_streams`.
        """
        self._device = device
        self._module: Any = torch.get_device_module(device)
        self._stream = self._module.Stream(device)

    def start(self, batch: Any) -> Any:
        """Begins to copy a mini-batch.

        Args:
            batch: Tensors on the host, and anything else, in any nesting of dictionaries, lists and tuples.

        Returns:
            The same with tensors on the device.
        """
        with self._module.stream(self._stream):
            return map_tensors(batch, lambda tensor: tensor.to(self._device, non_blocking=True))

    def finish(self, batch: Any) -> Any:
        """Lets the device wait for the copy before it goes on.

        Args:
            batch: What `start` gave.

        Returns:
            The same.
        """
        current = self._module.current_stream(self._device)
        current.wait_stream(self._stream)

        def note_use(tensor: torch.Tensor) -> torch.Tensor:
            # Else its memory could be given to the next copy while what computes with it isn't done.
            if tensor.device.type == self._device.type:
                tensor.record_stream(current)
            return tensor

        return map_tensors(batch, note_use)


def has_streams(device: torch.device) -> bool:
    """Tells whether a device can copy beside what it computes.

    Args:
        device: The device of the run.
    """
    return device.type in ("cuda", "xpu")


def moved_ahead(batches: Iterable[Any], mover: Mover) -> Iterator[Any]:
    """Gives mini-batches of which the next one is on its way already.

    Args:
        batches: The mini-batches.
        mover: What brings them over.

    Yields:
        Each of them, brought over.
    """
    ahead: list[Any] = []
    for batch in batches:
        ahead.append(mover.start(batch))
        if len(ahead) > 1:
            yield mover.finish(ahead.pop(0))
    for batch in ahead:
        yield mover.finish(batch)


def map_tensors(value: Any, function: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Applies a function to each tensor of a nest.

    Args:
        value: Dictionaries, lists and tuples of tensors and anything else.
        function: From a tensor to what takes its place.

    Returns:
        The nest with the function's results.
    """
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {name: map_tensors(one, function) for name, one in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_tensors(one, function) for one in value))
    if isinstance(value, list | tuple):
        return type(value)(map_tensors(one, function) for one in value)
    return value
