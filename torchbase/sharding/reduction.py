"""The sum of the gradients of a round of parts, in the order of the tree, for FSDP2."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.fsdp import FSDPModule

from torchbase.distributed.tree_sum import TreeSum


class TreeReduceScatter:
    """Adds the gradients of the processes in the order of `TreeSum`, and gives each process its rows of the sum.

    It has the interface of `torch.distributed.fsdp.ReduceScatter`. Each process receives its rows of the gradients of
    each other, which are as many bytes as a ring sends.

    Attributes:
        has_part: By process, whether its gradients are those of a part with samples. Others aren't added: to add
            zeros could change the sign of a zero.
    """

    def __init__(self, processes: int) -> None:
        """Sets the number of processes.

        Args:
            processes: The number of processes.
        """
        self.has_part: Sequence[bool] = (True,) * processes

    def allocate(self, size: Sequence[int], *, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """Allocates memory for FSDP2.

        Args:
            size: The shape.
            dtype: The type of the numbers.
            device: The device.
        """
        return torch.empty(*size, dtype=dtype, device=device)

    def __call__(
        self,
        output_tensor: torch.Tensor,
        input_tensor: torch.Tensor,
        group: Any,
        op: Any,
        async_op: bool = False,
    ) -> None:
        """Adds the gradients of the processes.

        Args:
            output_tensor: Receives the rows of this process.
            input_tensor: The gradients of this process, the rows of each process one after the other.
            group: The processes.
            op: How FSDP2 would add them; not used.
            async_op: Not used.
        """
        received = torch.empty_like(input_tensor)
        dist.all_to_all_single(received, input_tensor, group=group)
        add_rows(received.view(len(self.has_part), -1), self.has_part, output_tensor)


def add_rows(rows: torch.Tensor, has_part: Sequence[bool], output: torch.Tensor) -> None:
    """Adds rows in the order of `TreeSum`.

    Args:
        rows: One row per process. They are changed.
        has_part: Whether each row counts.
        output: Receives the sum.
    """
    if all(has_part) and len(rows) > 2 and len(rows) & (len(rows) - 1) == 0:
        while len(rows) > 2:  # one operation for each level of the tree
            rows = rows[0::2].add_(rows[1::2])
        torch.add(rows[0], rows[1], out=output)
        return
    total = TreeSum()
    for row, counts in zip(rows, has_part, strict=True):
        total.add([row] if counts else [])
    (sum_of_rows,) = total.total()
    output.copy_(rows[0] if sum_of_rows is None else sum_of_rows)


def reduce_by(network: torch.nn.Module, reduction: TreeReduceScatter) -> None:
    """Lets FSDP2 add gradients in the order of the tree, without dividing them.

    Args:
        network: The network, after `fully_shard`.
        reduction: Adds the gradients.
    """
    for module in network.modules():
        if isinstance(module, FSDPModule):
            module.set_custom_reduce_scatter(reduction)  # type: ignore[arg-type]
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
