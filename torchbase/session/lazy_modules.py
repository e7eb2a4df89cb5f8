"""Lazy modules, such as ``torch.nn.LazyLinear``: one forward pass gives their parameters shapes and values."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import is_lazy

from torchbase.checkpoints.forward_state import forward_undone
from torchbase.checkpoints.network_copy import NetworkCopier
from torchbase.engine.mini_batch_notes import add_note
from torchbase.engine.preview import first_mini_batch
from torchbase.errors import StepError, list_first


def is_lazily_built(network: torch.nn.Module) -> bool:
    """Whether a network has modules that a forward pass has to complete.

    Args:
        network: The network, as it was built.
    """
    return bool(_names_without_shape(network)) or any(_is_lazy_module(module) for module in network.modules())


def materialize(network: torch.nn.Module, forward_pass: Callable[[Any], object], loader: Iterable[Any]) -> None:
    """Gives the lazy parameters and buffers of a network shapes and values, with the first mini-batch of training.

    The forward pass runs in evaluation mode and without gradients. If it leaves parameters without a shape, a second
    one runs in training mode, for the parts of a network that are used in training only. What else the passes change in
    the network is undone.

    Args:
        network: The network, on its device.
        forward_pass: Passes a mini-batch through the network.
        loader: The loader of the training phase.

    Raises:
        StepError: If there is no mini-batch to try, or a parameter has no shape afterwards.
        Exception: Any error of ``forward_pass``.
    """
    names, batch = _names_without_shape(network), None
    for batch in first_mini_batch(loader):
        for is_training in (False, True):
            with forward_undone(NetworkCopier(network)), torch.no_grad():
                network.train(is_training)
                for module in network.modules():
                    if _is_lazy_module(module):
                        module.eval()  # statistics of LazyBatchNorm have no former values to restore
                _try(forward_pass, batch)
            if not _names_without_shape(network):
                return
    if batch is None:
        raise StepError(
            f"The network has lazy modules ({list_first(map(repr, names))}), which need a mini-batch before the "
            "optimizer is built, and the training loader is empty, or is an iterator, which would lose it. To fix, "
            "return a loader that can be iterated several times, or make the network without lazy modules."
        )
    raise StepError(
        f"The network has parameters without a shape, {list_first(map(repr, _names_without_shape(network)))}, since "
        "forward_pass doesn't use their lazy modules with the first mini-batch of training. To fix, make them without "
        "lazy modules, or remove them."
    )


def _try(forward_pass: Callable[[Any], object], batch: Any) -> None:
    try:
        forward_pass(batch)
    except Exception as error:
        add_note(error, "before training, for the lazy modules of the network, with the first mini-batch", batch)
        raise


def _names_without_shape(network: torch.nn.Module) -> list[str]:
    return [name for name, one in (*network.named_parameters(), *network.named_buffers()) if is_lazy(one)]


def _is_lazy_module(module: torch.nn.Module) -> bool:
    return isinstance(module, LazyModuleMixin)
