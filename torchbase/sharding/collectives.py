"""What FSDP2 sends for a unit of a network: parameters, and the sum of gradients in the order of the tree."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.fsdp import FSDPModule

from torchbase.distributed.tree_sum import TreeSum

# torch 2.13 has renamed it.
_all_gather = dist.all_gather_single if hasattr(dist, "all_gather_single") else dist.all_gather_into_tensor


class Sent:
    """What the units of a network have to know of a round, and have sent.

    Attributes:
        has_part: By process, whether its gradients are those of a part with samples. Others aren't added: to add
            zeros could change the sign of a zero.
        units: The numbers of the units, in the order in which they communicated. They have to be the same on each
            process: two units of one size would be mixed up otherwise.
    """

    def __init__(self, processes: int) -> None:
        """Sets the number of processes.

        Args:
            processes: The number of processes.
        """
        self.has_part: Sequence[bool] = (True,) * processes
        self.units: list[int] = []


class _OfUnit:
    def __init__(self, unit: int, sent: Sent) -> None:
        """Sets whose tensors are sent.

        Args:
            unit: The number of the unit.
            sent: Notes what is sent.
        """
        self._unit, self._sent = unit, sent

    def allocate(self, size: Sequence[int], *, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """Allocates memory for FSDP2.

        Args:
            size: The shape.
            dtype: The type of the numbers.
            device: The device.
        """
        return torch.empty(*size, dtype=dtype, device=device)


class NotedAllGather(_OfUnit):
    """Gathers the parameters of a unit. It has the interface of `torch.distributed.fsdp.AllGather`."""

    def __call__(
        self, output_tensor: torch.Tensor, input_tensor: torch.Tensor, group: Any, async_op: bool = False
    ) -> Any:
        """Gathers parameters.

        Args:
            output_tensor: Receives the parameters.
            input_tensor: The rows of this process.
            group: The processes.
            async_op: Whether to return before they are there.

        Returns:
            What can be waited for.
        """
        self._sent.units.append(self._unit)
        return _all_gather(output_tensor, input_tensor, group=group, async_op=async_op)


class TreeReduceScatter(_OfUnit):
    """Adds the gradients of the processes in the order of `TreeSum`, and gives each process its rows of the sum.

    It has the interface of `torch.distributed.fsdp.ReduceScatter`. Each process receives its rows of the gradients of
    each other, which are as many bytes as a ring sends.
    """

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
        self._sent.units.append(self._unit)
        received = torch.empty_like(input_tensor)
        dist.all_to_all_single(received, input_tensor, group=group)
        has_part = self._sent.has_part
        add_rows(received.view(len(has_part), -1), has_part, output_tensor)


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


def communicate_by(network: torch.nn.Module, sent: Sent) -> None:
    """Lets FSDP2 add gradients in the order of the tree, without dividing them, and notes what it sends.

    Args:
        network: The network, after `fully_shard`.
        sent: Notes what is sent.
    """
    units = [module for module in network.modules() if isinstance(module, FSDPModule)]
    for number, unit in enumerate(units):
        unit.set_custom_all_gather(NotedAllGather(number, sent))  # type: ignore[arg-type]
        unit.set_custom_reduce_scatter(TreeReduceScatter(number, sent))  # type: ignore[arg-type]
        unit.set_gradient_divide_factor(1.0)
        unit.set_force_sum_reduction_for_comms(True)


def give_outputs_their_own_memory(network: torch.nn.Module) -> None:
    """Copies outputs of units that are views, before FSDP2 sees them.

    FSDP2 attaches what it does in the backward pass to an output. A later change in place of a view would drop that
    silently, and the gradients would be wrong.

    Args:
        network: The network, after `fully_shard`.
    """
    # As the hooks of FSDP2, which come after it.
    hook = torch.compiler.disable(_copy_views)  # type: ignore[no-untyped-call]
    for module in network.modules():
        if isinstance(module, FSDPModule):
            module.register_forward_hook(hook, prepend=True)


def _copy_views(module: torch.nn.Module, arguments: Any, output: Any) -> Any:
    return _without_views(output) if torch.is_grad_enabled() else output


def _without_views(output: Any) -> Any:
    if isinstance(output, torch.Tensor):
        return output.clone() if output.requires_grad and output._is_view() else output
    if type(output) in (list, tuple):
        return type(output)(map(_without_views, output))
    if type(output) is dict:
        return {name: _without_views(one) for name, one in output.items()}
    return output
