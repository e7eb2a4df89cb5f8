"""Averages the weights during training, and validates with the averages."""

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from torchbase.distributed.shards import is_shard, local_of
from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.engine.training_step import network_of
from torchbase.errors import HookError
from torchbase.techniques.averaged_shards import AveragedShards
from torchbase.techniques.settings import is_number

Tensors = tuple[torch.Tensor, ...] | list[torch.Tensor]


class ExponentialMovingAverage:
    """Averages the weights over optimizer steps, and validates with the averaged weights.

    The averages change less from step to step than the weights, and often perform better on validation sets, especially
    with a high learning rate. The validation phases use the averages, so the sets vote on the averages, and
    ``network.pth`` holds them. Training continues with the unaveraged weights. A checkpoint holds both:
    the unaveraged weights as the network, and the averages as the state of this hook.

    The averages of a decay d span about the last 1 / (1 - d) steps. Choose it so that they span a small part of the
    run: 0.9 for a few hundred steps, 0.99 for some thousands, 0.999 and more for tens of thousands. The first averages
    span fewer steps: after n updates the decay is at most (1 + n) / (10 + n), so that they don't hold on to untrained
    weights. Before the first step, validation uses the weights of the network. With several optimizers, an iteration in
    which any of them steps is one update.

    Source: https://docs.pytorch.org/docs/stable/optim.html#weight-averaging-swa-and-ema; Polyak and Juditsky,
    Acceleration of Stochastic Approximation by Averaging, https://doi.org/10.1137/0330046; for the first decays
    https://www.tensorflow.org/api_docs/python/tf/train/ExponentialMovingAverage

    Example:
        >>> hook = ExponentialMovingAverage(0.999)
    """

    def __init__(self, decay: float = 0.999, use_buffers: bool = False) -> None:
        """Sets the decay of the averages.

        Args:
            decay: The weight of the old average at each step, between 0 and 1; the first steps use a lower one.
            use_buffers: Whether to average buffers as well, such as the statistics of batch normalization. Otherwise
                validation uses the averaged weights with the current buffers of the network.

        Raises:
            HookError: If the decay isn't between 0 and 1.
        """
        if not is_number(decay) or not 0 < decay < 1:
            raise HookError(f"The decay of ExponentialMovingAverage has to be between 0 and 1, but got {decay!r}.")
        self._decay, self._use_buffers = decay, use_buffers
        self._full_average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        self._run: Run | None = None
        self._has_stepped = False  # in this iteration, in the turn of one of several optimizers
        self._averages: AveragedModel | AveragedShards | None = None
        self._loaded_state: Mapping[str, Any] = {}

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Initializes the averages with the weights, or restores the averages of a checkpoint."""
        if self._averages is None or run is not self._run:
            self._averages = self._new_averages(network_of(run))
        if self._loaded_state:
            self._averages.load_state_dict(self._loaded_state)
            self._loaded_state = {}
        self._run = run

    @hookimpl(wrapper=True)
    def run_optimizer_step(self, run: Run) -> Generator[None, Any, Any]:
        """Updates the averages after each step."""
        result = yield
        if run.turn is not None:
            self._has_stepped = True  # the other turns of the iteration may follow
        elif self._averages is not None:
            self._averages.update_parameters(network_of(run))
        return result

    @hookimpl
    def on_iteration_end(self, run: Run) -> None:
        """Updates the averages after the steps of several optimizers."""
        if self._has_stepped and self._averages is not None:
            self._has_stepped = False
            self._averages.update_parameters(network_of(run))

    @hookimpl(wrapper=True)
    def run_phase(self, run: Run, phase: Phase) -> Generator[None, Any, Any]:
        """Validates with the averages."""
        if phase.is_training:
            return (yield)
        with self._averages_in_network(run):
            return (yield)

    @hookimpl(wrapper=True)
    def on_best_epoch(self, run: Run) -> Generator[None, Any, Any]:
        """Puts the averages into the network while other hooks save it as the best network."""
        with self._averages_in_network(run):
            return (yield)

    def state_dict(self) -> dict[str, Any]:
        """Returns the averages."""
        return dict(self._loaded_state) if self._averages is None else self._averages.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Stores the averages, which the start of the run restores.

        Args:
            state: The return value of `state_dict`.
        """
        self._loaded_state = dict(state)

    @contextmanager
    def _averages_in_network(self, run: Run) -> Iterator[None]:
        # An evaluation uses the current weights. Averages that have never been updated are untrained weights.
        if self._averages is None or run is not self._run or self._updates == 0:
            yield
            return
        trained = self._averaged_tensors(network_of(run))
        saved = [tensor.detach().clone() for tensor in trained]
        if isinstance(self._averages, AveragedShards):
            _copy(self._averages.tensors(self._use_buffers), trained)
        else:
            _copy(self._averaged_tensors(self._averages.module), trained)
        try:
            yield
        finally:
            _copy(saved, trained)

    def _new_averages(self, network: torch.nn.Module) -> "AveragedModel | AveragedShards":
        if any(is_shard(one) for one in network.parameters()):  # such a network can't be copied
            return AveragedShards(network, self._average, self._use_buffers)
        with torch.device("cpu"):  # for the counter of updates
            return AveragedModel(network, multi_avg_fn=self._average, use_buffers=self._use_buffers)

    @property
    def _updates(self) -> int:
        """The number of updates. PyTorch counts them on the host, so this doesn't synchronize with the device."""
        return 0 if self._averages is None else int(self._averages.n_averaged)

    def _average(self, averages: Tensors, weights: Tensors, updates: torch.Tensor | int) -> None:
        done = self._updates  # and not `updates`, which is on the device of the averages
        decay = min(self._decay, (1 + done) / (10 + done))
        is_full = decay == self._decay  # after the first steps; a function for each step takes more time
        average = self._full_average if is_full else get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        average(averages, weights, updates)

    def _averaged_tensors(self, network: torch.nn.Module) -> list[torch.Tensor]:
        return list(chain(network.parameters(), network.buffers()) if self._use_buffers else network.parameters())


def _copy(source: list[torch.Tensor], target: list[torch.Tensor]) -> None:
    with torch.no_grad():
        for source_tensor, target_tensor in zip(source, target, strict=True):
            # In place: a compiled network or an optimizer holds the same tensors.
            local_of(target_tensor).copy_(local_of(source_tensor))
