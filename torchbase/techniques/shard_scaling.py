"""Gradients of shards, in a form in which a gradient scaler finds the overflows of all processes."""

from collections.abc import Iterable

import torch

from torchbase.distributed.processes import Processes
from torchbase.distributed.shards import local_of


class GradientsOfAll:
    """Stands for an optimizer whose parameters are shards: it has their gradients, and what overflowed elsewhere.

    Attributes:
        param_groups: One group, with the rows of this process, whose gradients share memory with those of the shards.
    """

    def __init__(self, parameters: Iterable[torch.Tensor], processes: Processes, device: torch.device) -> None:
        """Finds out whether a gradient of any process isn't finite. All processes have to create it.

        Args:
            parameters: The parameters.
            processes: The processes.
            device: The device on which processes exchange what they found.
        """
        rows = []
        for parameter in parameters:
            if parameter.grad is not None:
                row = local_of(parameter).detach()
                row.grad = local_of(parameter.grad)
                rows.append(row)
        are_finite = [torch.isfinite(row.grad).all().to(device) for row in rows if row.grad is not None]
        is_finite = torch.stack(are_finite).all() if are_finite else torch.ones((), dtype=torch.bool, device=device)
        of_all = processes.gather_tensor(is_finite.float().reshape(1))
        other = torch.zeros(1, device=device)
        other.grad = torch.where(of_all.min() > 0, 0.0, torch.inf).reshape(1)
        self.param_groups = [{"params": [*rows, other]}]
