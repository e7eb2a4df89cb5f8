"""Logs the graph of the operations of the network."""

import inspect
import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.hooks import RemovableHandle

from torchbase.checkpoints.forward_state import copier_of, forward_undone
from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.randomness.streams import isolate_rng

logger = logging.getLogger("torchbase")


class NetworkGraph:
    """Logs the graph of the network after the first training iteration.

    The logging backends receive the network and its inputs of the first training mini-batch, once per run.
    `TensorBoard` saves the graph. The random streams, buffers, modes and logged values are restored afterwards, and the
    weights don't change.
    """

    main_process_only = True

    def __init__(self) -> None:
        self._handle: RemovableHandle | None = None
        self._inputs: tuple[tuple[Any, ...], dict[str, Any]] | None = None

    @hookimpl
    def on_phase_start(self, run: Run, phase: Phase) -> None:
        """Registers a forward pre-hook on the network at the start of a new run."""
        if phase.is_training and phase.progress.iterations == 0 and run.network is not None:
            self._inputs = None
            self._handle = run.network.register_forward_pre_hook(self._store_inputs, with_kwargs=True)

    @hookimpl
    def on_iteration_end(self, run: Run, phase: Phase) -> None:
        """Logs the graph after the first iteration."""
        if self._handle is None or run.network is None:
            return
        self._remove_pre_hook()
        inputs = None if self._inputs is None else _by_position(run.network, *self._inputs)
        self._inputs = None
        if inputs is None:
            logger.warning(
                "The graph of the network can't be recorded: forward_pass doesn't call the network itself, or passes "
                "arguments that can't be passed by position. Training continues."
            )
            return
        values = dict(phase.values)
        with isolate_rng(run.device), forward_undone(copier_of(run)), torch.no_grad():
            run.call.log_graph(run=run, network=run.network, inputs=inputs)
        phase.values = values

    @hookimpl
    def on_exception(self) -> None:
        """Removes the forward pre-hook if the first iteration failed."""
        self._remove_pre_hook()

    def _store_inputs(self, network: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._inputs is None:
            self._inputs = _copied(args), _copied(kwargs)

    def _remove_pre_hook(self) -> None:
        if self._handle is not None:
            self._handle.remove()
            self._handle = None


def _by_position(network: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...] | None:
    bound = inspect.signature(network.forward).bind(*args, **kwargs)
    return None if bound.kwargs else bound.args


def _copied(value: Any) -> Any:
    # The network may change its inputs in place.
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, list | tuple):
        return type(value)(_copied(item) for item in value) if type(value) in (list, tuple) else value
    return {key: _copied(item) for key, item in value.items()} if isinstance(value, dict) else value
