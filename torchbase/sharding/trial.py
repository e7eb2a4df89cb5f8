"""Watches the units of a sharded network in the forward passes before training."""

import logging
from typing import Any

import torch
from torch.distributed.fsdp import FSDPModule

from torchbase.distributed.shards import is_shard
from torchbase.errors import StepError

logger = logging.getLogger("torchbase")


class TrialOfUnits:
    """Finds forward passes that change a parameter, and units that are called several times in one pass.

    A unit computes with a copy of its parameters, which is freed after it. A change in place would be lost. FSDP2 adds
    the gradients of several calls of a unit after each call, which rounds otherwise than one process does.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        """Begins to watch.

        Args:
            network: The network.
        """
        self._network = network
        self._versions: dict[torch.nn.Module, dict[str, int]] = {}
        self._calls: dict[torch.nn.Module, int] = {}
        self._has_warned = False
        self._handles = []
        before = torch.compiler.disable(self._before)  # type: ignore[no-untyped-call]
        for name, module in network.named_modules():
            if isinstance(module, FSDPModule):
                unit: torch.nn.Module = module  # type: ignore[assignment]
                # After FSDP2 has gathered the parameters, and before it frees them.
                self._handles.append(unit.register_forward_pre_hook(before))
                check = torch.compiler.disable(self._checker(name))  # type: ignore[no-untyped-call]
                self._handles.append(unit.register_forward_hook(check, prepend=True))

    def end(self) -> None:
        """Ends the watch."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _before(self, module: torch.nn.Module, arguments: Any) -> None:
        if module is self._network:
            self._calls.clear()
        self._calls[module] = self._calls.get(module, 0) + 1
        self._versions[module] = {name: one._version for name, one in _whole_parameters(module)}

    def _checker(self, unit: str) -> Any:
        def check(module: torch.nn.Module, arguments: Any, output: Any) -> None:
            before = self._versions.pop(module, {})
            for name, one in _whole_parameters(module):
                if one._version != before.get(name, one._version):
                    path = f"{unit}.{name}" if unit else name
                    raise StepError(
                        f"forward_pass changes the parameter '{path}', and a sharded network (session.distributed is "
                        "'shard') would lose the change. To fix, make it a buffer (register_buffer), or change it in "
                        "a hook after the optimizer step."
                    )
            if self._calls.get(module, 0) > 1 and not self._has_warned:
                self._has_warned = True
                logger.warning(
                    "The unit '%s' of the sharded network is called several times in a forward pass, so its gradients "
                    "equal those of one process to rounding, not in each bit. To fix, leave it out in sharded_units.",
                    unit,
                )

        return check


def _whole_parameters(module: torch.nn.Module) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, one) for name, one in module.named_parameters() if not is_shard(one)]
