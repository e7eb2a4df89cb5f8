"""The buffers of a network (the running averages of batch normalization, say), to be put back after a trial."""

import torch


class KeptBuffers:
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

    def put_back(self) -> None:
        """Gives each buffer its former values, also where another tensor has taken its place meanwhile."""
        with torch.no_grad():
            for module, name, buffer, former in self._kept:
                setattr(module, name, buffer.copy_(former))
