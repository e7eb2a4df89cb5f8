"""Averages of a network that is sharded over processes, of which each process averages its shards."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import torch

from torchbase.checkpoints.distributed_tensors import as_in
from torchbase.distributed.shards import local_of

Average = Callable[[list[torch.Tensor], list[torch.Tensor], torch.Tensor], None]


class AveragedShards:
    """Does what `torch.optim.swa_utils.AveragedModel` does, for a network that can't be copied as a module.

    Its state has the names that an `AveragedModel` has, and shards in place of tensors.

    Attributes:
        n_averaged: The number of updates.
    """

    def __init__(self, network: torch.nn.Module, average: Average, use_buffers: bool) -> None:
        """Copies the weights and buffers of a network.

        Args:
            network: The network.
            average: Averages lists of tensors in place, as ``multi_avg_fn`` of an `AveragedModel`.
            use_buffers: Whether buffers are averaged, too. Otherwise they are copied.
        """
        self.n_averaged = torch.zeros((), dtype=torch.long, device="cpu")
        self._average, self._use_buffers = average, use_buffers
        self._parameters = [one.detach().clone() for one in network.parameters()]
        self._buffers = [one.detach().clone() for one in network.buffers()]
        copies = {id(one): copied for one, copied in zip(network.parameters(), self._parameters, strict=True)}
        copies |= {id(one): copied for one, copied in zip(network.buffers(), self._buffers, strict=True)}
        self._named = {
            f"module.{name}": copies.get(id(one), one) for name, one in network.state_dict(keep_vars=True).items()
        }

    def tensors(self, with_buffers: bool) -> list[torch.Tensor]:
        """Returns the averages.

        Args:
            with_buffers: Whether those of buffers are returned, too.
        """
        return [*self._parameters, *(self._buffers if with_buffers else ())]

    def update_parameters(self, network: torch.nn.Module) -> None:
        """Updates the averages.

        Args:
            network: The network.
        """
        averages = [local_of(one) for one in self.tensors(self._use_buffers)]
        current = [*network.parameters(), *(network.buffers() if self._use_buffers else ())]
        values = [local_of(one).detach() for one in current]
        with torch.no_grad():
            if self.n_averaged == 0:
                _copy(values, averages)
            else:
                for group in _by_device_and_dtype(averages):
                    self._average([averages[one] for one in group], [values[one] for one in group], self.n_averaged)
            if not self._use_buffers:
                _copy([one.detach() for one in network.buffers()], self._buffers)
        self.n_averaged += 1

    def state_dict(self) -> dict[str, Any]:
        """Returns the averages by name, and the number of updates."""
        return {"n_averaged": self.n_averaged, **self._named}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the averages.

        Args:
            state: The return value of `state_dict`, with shards, or with whole tensors of a run that wasn't sharded.
        """
        with torch.no_grad():
            self.n_averaged.copy_(state["n_averaged"])
            for name, one in self._named.items():
                if isinstance(one, torch.Tensor):
                    local_of(one).copy_(local_of(as_in(one, state[name])))


def _copy(source: list[torch.Tensor], target: list[torch.Tensor]) -> None:
    for one, other in zip(source, target, strict=True):
        other.copy_(one)


def _by_device_and_dtype(tensors: list[torch.Tensor]) -> list[list[int]]:
    groups: dict[tuple[torch.device, torch.dtype], list[int]] = defaultdict(list)
    for position, one in enumerate(tensors):
        groups[one.device, one.dtype].append(position)
    return list(groups.values())
