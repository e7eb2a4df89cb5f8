"""Compiles the network."""

from typing import Any

import torch

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.run import Run
from torchbase.engine.training_step import network_of


class Compile:
    """Compiles the network in place with ``torch.compile``.

    ``run.network`` stays the same module, and its parameters keep their names. Checkpoints and ``network.pth`` can
    therefore be loaded with or without compilation. Only the call of the network is compiled, not its other methods.
    `Rehearsal` triggers the compilation for training and validation before the first iteration.

    By default each shape of mini-batches is compiled separately (``dynamic=False``). With PyTorch's own default,
    ``dynamic=None``, the second shape is compiled for all shapes. The second shape depends on where a run was resumed,
    and so would the last bits of the weights. After a number of shapes (``torch._dynamo.config.recompile_limit``, 8)
    PyTorch runs further shapes without compilation. If mini-batches have many shapes, pass ``dynamic=True``.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.compile.html

    Example:
        >>> hook = Compile(mode="reduce-overhead")
    """

    def __init__(self, **options: Any) -> None:
        """Sets the options.

        Args:
            **options: The options of ``torch.compile``: ``backend``, ``mode``, ``fullgraph``, ``dynamic``, ``options``.
        """
        self._options = {"dynamic": False, **options}
        self._compiled: torch.nn.Module | None = None

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Prepares the compilation, which happens at the first call of the network."""
        network = network_of(run)
        if network is not self._compiled:
            network.compile(**self._options)
            self._compiled = network
