"""A hook for torchbase that records how large the weights of a network are."""

from collections.abc import Mapping
from typing import Any

import torch

from torchbase import Phase, Run, hookimpl

__all__ = ["WeightNorms"]


class WeightNorms:
    """Records the norm of all weights after each training iteration, and its running mean.

    The curves are ``training/weight_norm/iterations`` and ``training/weight_norm_mean/iterations``. A norm that grows
    and grows asks for weight decay, one that jumps for a lower learning rate.

    ``config["data"]["weight_norms"]["decay"]`` says how much of the mean is kept at each iteration; 0.98 without it.
    """

    def __init__(self) -> None:
        self.decay = 0.98
        self.mean: torch.Tensor | None = None

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Reads the settings, since a plugin is made without arguments."""
        self.decay = run.config.get("data", {}).get("weight_norms", {}).get("decay", self.decay)
        if self.mean is not None:  # a checkpoint gave it, on the CPU
            self.mean = self.mean.to(run.device)

    @hookimpl
    def on_iteration_end(self, run: Run, phase: Phase) -> None:
        """Records both, without waiting for the device."""
        if phase.is_training and run.network is not None:
            norm = torch.nn.utils.get_total_norm([one.detach() for one in run.network.parameters()])
            self.mean = norm if self.mean is None else self.mean.lerp(norm, 1 - self.decay)
            run.log("weight_norm", norm)
            run.log("weight_norm_mean", self.mean)

    def state_dict(self) -> dict[str, Any]:
        """Gives the mean, so that a run that is resumed goes on with it."""
        return {"mean": self.mean}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes the mean.

        Args:
            state: What `state_dict` gave.
        """
        self.mean = state["mean"]
