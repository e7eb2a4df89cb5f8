"""Records the graph of the network's operations."""

import inspect
import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.hooks import RemovableHandle

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.randomness import fence
from torchbase.techniques.buffers import network_restored

logger = logging.getLogger("torchbase")


class NetworkGraph:
    """Tells the logging backends of the network, with what it got in the first mini-batch of the training.

    Once a run, behind its first iteration. What calling the network changes is put back: random streams, buffers, modes
    and values; nothing is learnt. Of those that are here, TensorBoard keeps the graph.
    """

    def __init__(self) -> None:
        self._handle: RemovableHandle | None = None
        self._called_with: tuple[tuple[Any, ...], dict[str, Any]] | None = None

    @hookimpl
    def on_phase_start(self, run: Run, phase: Phase) -> None:
        """Begins to watch the network, in a run that is at its beginning."""
        if phase.is_training and phase.progress.iterations == 0 and run.network is not None:
            self._called_with = None
            self._handle = run.network.register_forward_pre_hook(self._keep, with_kwargs=True)

    @hookimpl
    def on_iteration_end(self, run: Run, phase: Phase) -> None:
        """Tells of the network behind the first iteration."""
        if self._handle is None or run.network is None:
            return
        self._stop_watching()
        inputs = None if self._called_with is None else _by_position(run.network, *self._called_with)
        self._called_with = None
        if inputs is None:
            logger.warning(
                "The graph of the network can't be recorded: forward_pass doesn't call the network itself, or gives it "
                "arguments that can't be given by position. Training goes on."
            )
            return
        values = dict(phase.values)
        with fence(run.device), network_restored(run.network), torch.no_grad():
            run.call.log_graph(run=run, network=run.network, inputs=inputs)
        phase.values = values

    @hookimpl
    def on_exception(self) -> None:
        """Stops watching, where the first iteration failed."""
        self._stop_watching()

    def _keep(self, network: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._called_with is None:
            self._called_with = _copied(args), _copied(kwargs)

    def _stop_watching(self) -> None:
        if self._handle is not None:
            self._handle.remove()
            self._handle = None


def _by_position(network: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...] | None:
    bound = inspect.signature(network.forward).bind(*args, **kwargs)
    return None if bound.kwargs else bound.args


def _copied(value: Any) -> Any:
    # The network may change in place what it gets.
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, list | tuple):
        return type(value)(_copied(one) for one in value) if type(value) in (list, tuple) else value
    return {key: _copied(one) for key, one in value.items()} if isinstance(value, dict) else value
