"""Saves and restores the buffers of a network, such as the running averages of batch normalization."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class SavedBuffers:
    """A copy of all buffers of a network."""

    def __init__(self, network: torch.nn.Module) -> None:
        """Copies the buffers.

        Args:
            network: The network.
        """
        self._saved = [
            (module, name, buffer, buffer.detach().clone())
            for module in network.modules()
            for name, buffer in module.named_buffers(recurse=False)
        ]

    def restore(self) -> None:
        """Restores each buffer and its values, even if the module now holds another tensor in its place."""
        with torch.no_grad():
            for module, name, buffer, values in self._saved:
                setattr(module, name, buffer.copy_(values))


@contextmanager
def network_restored(network: torch.nn.Module) -> Iterator[None]:
    """Restores the buffers of a network, and the mode of each of its modules, at the end of a ``with`` block.

    Args:
        network: The network.

    Yields:
        Nothing.
    """
    modes, buffers = [(module, module.training) for module in network.modules()], SavedBuffers(network)
    try:
        yield
    finally:
        for module, is_training in modes:
            module.training = is_training
        buffers.restore()
