"""Averages the weights over the training, and validates with the averages."""

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.engine.training_step import network_of
from torchbase.errors import HookError


class ExponentialMovingAverage:
    """Keeps a moving average of the weights over the steps of the optimizer.

    It moves less from step to step than the weights themselves, and often does better on validation sets, above all
    with a high learning rate. The validation phases are run with the averages, so they vote on them, and the best
    network in ``network.pth`` holds them. Training goes on with the weights themselves, which checkpoints keep as the
    network, and the averages beside it.

    Source: https://docs.pytorch.org/docs/stable/optim.html#weight-averaging-swa-and-ema; Polyak and Juditsky,
    Acceleration of Stochastic Approximation by Averaging, https://doi.org/10.1137/0330046

    Example:
        >>> hook = ExponentialMovingAverage(0.999)
    """

    def __init__(self, decay: float = 0.999, use_buffers: bool = False) -> None:
        """Sets how slowly the averages move.

        Args:
            decay: Which part of an average stays at each step, between 0 and 1: with 0.999 it spans about the last
                thousand steps.
            use_buffers: Whether to average buffers, too (the statistics of batch normalization, say); otherwise the
                averages are validated with the buffers of the network.

        Raises:
            HookError: If the decay isn't between 0 and 1.
        """
        if not 0 < decay < 1:
            raise HookError(f"The decay of ExponentialMovingAverage has to be between 0 and 1, and is {decay!r}.")
        self._decay, self._use_buffers = decay, use_buffers
        self._run: Run | None = None
        self._averages: AveragedModel | None = None
        self._kept: Mapping[str, Any] = {}

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Begins with the network as it is, or goes on with the averages of a checkpoint."""
        if self._averages is None or run is not self._run:
            average = get_ema_multi_avg_fn(self._decay)  # type: ignore[no-untyped-call]
            self._averages = AveragedModel(network_of(run), multi_avg_fn=average, use_buffers=self._use_buffers)
        if self._kept:
            self._averages.load_state_dict(self._kept)
            self._kept = {}
        self._run = run

    @hookimpl(wrapper=True)
    def run_optimizer_step(self, run: Run) -> Generator[None, Any, Any]:
        """Moves the averages behind each step."""
        answer = yield
        if self._averages is not None:
            self._averages.update_parameters(network_of(run))
        return answer

    @hookimpl(wrapper=True)
    def run_phase(self, run: Run, phase: Phase) -> Generator[None, Any, Any]:
        """Validates with the averages."""
        if phase.is_training:
            return (yield)
        with self._in_place_of_the_weights(run):
            return (yield)

    @hookimpl(wrapper=True)
    def on_best_epoch(self, run: Run) -> Generator[None, Any, Any]:
        """Lets those who keep the best network find what was validated."""
        with self._in_place_of_the_weights(run):
            return (yield)

    def state_dict(self) -> dict[str, Any]:
        """Gives the averages."""
        return dict(self._kept) if self._averages is None else self._averages.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes the averages, for when the run starts.

        Args:
            state: What `state_dict` gave.
        """
        self._kept = dict(state)

    @contextmanager
    def _in_place_of_the_weights(self, run: Run) -> Iterator[None]:
        if self._averages is None or run is not self._run:  # an evaluation is of the network as it is
            yield
            return
        trained = self._averaged_tensors(network_of(run))
        kept = [one.detach().clone() for one in trained]
        _copy(self._averaged_tensors(self._averages.module), trained)
        try:
            yield
        finally:
            _copy(kept, trained)

    def _averaged_tensors(self, network: torch.nn.Module) -> list[torch.Tensor]:
        return list(chain(network.parameters(), network.buffers()) if self._use_buffers else network.parameters())


def _copy(source: list[torch.Tensor], target: list[torch.Tensor]) -> None:
    with torch.no_grad():
        for one, other in zip(source, target, strict=True):
            other.copy_(one)  # in place: a compiled network, or an optimizer, may hold these very tensors
