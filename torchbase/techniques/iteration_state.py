"""Saves the state that an iteration changes before the optimizer step, so that the iteration can be retried."""

import torch

from torchbase.checkpoints.forward_state import ForwardState
from torchbase.checkpoints.network_copy import NetworkCopier
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.engine.training_step import network_of
from torchbase.randomness.streams import streams_restorer


class StateBeforeIteration:
    """A copy of the random streams, the network, hooks, gradients and logged values before an iteration."""

    def __init__(self, run: Run, phase: Phase, copier: NetworkCopier) -> None:
        """Copies the state.

        Args:
            run: The run.
            phase: The phase of the iteration. Gradients are copied only for the training phase.
            copier: Of the run's network.
        """
        self._phase = phase
        self._restore_streams, self._forward = streams_restorer(run.device), ForwardState(run, copier)
        parameters = network_of(run).parameters() if phase.is_training else ()
        self._gradients = [(parameter, _copy(parameter.grad)) for parameter in parameters]
        self._values = dict(phase.values)

    def restore(self) -> None:
        """Restores the state; may be called several times."""
        self._restore_streams()
        self._forward.restore()
        for parameter, gradient in self._gradients:
            parameter.grad = _copy(gradient)
        self._phase.values, self._phase.outputs, self._phase.loss = dict(self._values), None, None


def _copy(gradient: torch.Tensor | None) -> torch.Tensor | None:
    return None if gradient is None else gradient.clone()
