"""What an iteration changes before the optimizer steps, kept so that the iteration can be done again."""

import torch

from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.engine.training_step import network_of
from torchbase.randomness import capture_streams, restore_streams
from torchbase.techniques.buffers import SavedBuffers


class StateBeforeIteration:
    """The random streams, the buffers, the gradients and what was logged, right before an iteration."""

    def __init__(self, run: Run, phase: Phase) -> None:
        """Copies them.

        Args:
            run: The run.
            phase: The phase of the iteration; of one that doesn't train, gradients are left alone.
        """
        network = network_of(run)
        self._run, self._phase = run, phase
        self._streams, self._buffers = capture_streams(run.device), SavedBuffers(network)
        self._gradients = [(one, _copy(one.grad)) for one in network.parameters()] if phase.is_training else []
        self._values = dict(phase.values)

    def restore(self) -> None:
        """Puts them back, as often as need be."""
        restore_streams(self._streams, self._run.device)
        self._buffers.restore()
        for parameter, gradient in self._gradients:
            parameter.grad = _copy(gradient)
        self._phase.values, self._phase.outputs, self._phase.loss = dict(self._values), None, None


def _copy(gradient: torch.Tensor | None) -> torch.Tensor | None:
    return None if gradient is None else gradient.clone()
