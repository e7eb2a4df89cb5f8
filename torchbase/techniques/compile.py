"""Compiles the network."""

from typing import Any

import torch

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.run import Run
from torchbase.engine.training_step import network_of


class Compile:
    """Compiles the network in place by ``torch.compile``, so that its forward pass takes fewer and larger kernels.

    ``run.network`` stays the network itself and its parameters keep their names, so checkpoints and ``network.pth`` are
    those of a network that isn't compiled, and can be read without compiling. Only calling the network is compiled, not
    other methods of it. `Rehearsal` compiles it for training and validation before the first iteration.

    Each shape of mini-batches is compiled by itself unless ``dynamic`` is given. By torch's own default the second
    shape that comes would be compiled for all shapes; which comes second depends on where a run was resumed, and with
    it the last bits of what is learnt. After some shapes (``torch._dynamo.config.recompile_limit``, 8) torch goes on
    without compiling, so where mini-batches have many shapes, give ``dynamic=True``.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.compile.html

    Example:
        >>> hook = Compile(mode="reduce-overhead")
    """

    def __init__(self, **options: Any) -> None:
        """Sets the options.

        Args:
            **options: Those of ``torch.compile``: ``backend``, ``mode``, ``fullgraph``, ``dynamic``, ``options``.
        """
        self._options = {"dynamic": False, **options}
        self._compiled: torch.nn.Module | None = None

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Prepares the compilation, which the first call of the network does."""
        network = network_of(run)
        if network is not self._compiled:
            network.compile(**self._options)
            self._compiled = network
