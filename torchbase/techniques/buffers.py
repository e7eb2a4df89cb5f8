"""The buffers of a network (the running averages of batch normalization, say), to be put back after a trial."""

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
        self._kept = [
            (module, name, buffer, buffer.detach().clone())
            for module in network.modules()
            for name, buffer in module.named_buffers(recurse=False)
        ]

    def restore(self) -> None:
        """Gives each buffer its former values, also where another tensor has taken its place meanwhile."""
        with torch.no_grad():
            for module, name, buffer, former in self._kept:
                setattr(module, name, buffer.copy_(former))


@contextmanager
def network_restored(network: torch.nn.Module) -> Iterator[None]:
    """Puts the buffers of a network, and the mode of each of its modules, back as they were.

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
