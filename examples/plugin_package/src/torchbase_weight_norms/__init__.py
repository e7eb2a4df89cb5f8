"""A hook for torchbase that records the norm of a network's weights."""

from collections.abc import Mapping
from typing import Any

import torch

from torchbase import Phase, Run, hookimpl

__all__ = ["WeightNorms"]


class WeightNorms:
    """Records the norm of all weights after each training iteration, and its running mean.

    The curves are ``training/weight_norm/iterations`` and ``training/weight_norm_mean/iterations``. If the norm keeps
    growing, try weight decay; if it jumps, try a lower learning rate.

    ``config["data"]["weight_norms"]["decay"]`` is the decay of the running mean per iteration, by default 0.98.
    """

    def __init__(self) -> None:
        self.decay = 0.98
        self.mean: torch.Tensor | None = None

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Reads the settings, since a plugin is created without arguments."""
        self.decay = run.config.get("data", {}).get("weight_norms", {}).get("decay", self.decay)
        if self.mean is not None:  # a checkpoint restored it, on the CPU
            self.mean = self.mean.to(run.device)

    @hookimpl
    def on_iteration_end(self, run: Run, phase: Phase) -> None:
        """Records the norm and its mean, without synchronizing with the device."""
        if phase.is_training and run.network is not None:
            norm = torch.nn.utils.get_total_norm([parameter.detach() for parameter in run.network.parameters()])
            self.mean = norm if self.mean is None else self.mean.lerp(norm, 1 - self.decay)
            run.log("weight_norm", norm)
            run.log("weight_norm_mean", self.mean)

    def state_dict(self) -> dict[str, Any]:
        """Returns the mean, so that a resumed run continues with it."""
        return {"mean": self.mean}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the mean.

        Args:
            state: What `state_dict` returned.
        """
        self.mean = state["mean"]
