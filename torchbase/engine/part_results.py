"""What the parts of a mini-batch leave on their phase, and what they give together."""

from collections.abc import Sequence
from typing import Any

import torch

from torchbase.data.parts import average_values, join_outputs
from torchbase.engine.phase import Phase


class PartResults:
    """Takes outputs, values and loss from a phase after each part, and sets those of the whole mini-batch."""

    def __init__(self, phase: Phase) -> None:
        """Begins a mini-batch.

        Args:
            phase: The phase. The values that it has now are set again at the end, beside those of the parts.
        """
        self._phase, self._logged_before = phase, phase.values
        self._outputs: list[dict[str, Any]] = []
        self._values: list[dict[str, torch.Tensor | float]] = []
        self._losses: list[dict[str, torch.Tensor | None]] = []
        phase.values = {}

    def take(self) -> None:
        """Takes the results of a part, and empties the phase for the next one."""
        phase = self._phase
        self._outputs.append({name: _detached(value) for name, value in (phase.outputs or {}).items()})
        self._values.append(phase.values)
        self._losses.append({"loss": phase.loss})
        phase.outputs, phase.loss, phase.values = None, None, {}

    def join(self, sizes: Sequence[int]) -> torch.Tensor:
        """Sets the outputs, the values and the loss of the whole mini-batch on the phase.

        Args:
            sizes: The number of samples of each part, by which values and losses are averaged.

        Returns:
            The loss.
        """
        phase = self._phase
        phase.outputs = join_outputs(self._outputs, sizes)
        phase.values = {**self._logged_before, **average_values(self._values, sizes)}
        loss: torch.Tensor = average_values(self._losses, sizes)["loss"]
        phase.loss = loss
        return loss


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, torch.Tensor) else value
