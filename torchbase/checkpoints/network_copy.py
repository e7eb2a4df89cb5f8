"""Copies of a network's state in memory, to undo what a forward pass changes."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.parameter import is_lazy

from torchbase.distributed.shards import is_shard
from torchbase.engine.modes import modes_of, restore_modes


@dataclass(frozen=True)
class NetworkCopy:
    """The state of a network at one moment.

    Attributes:
        modes: By module, whether it was in training mode.
        buffers: The module, the name, the buffer and a copy of its values.
        lazy_buffers: The module and the name of each buffer of a lazy module that had no values when `NetworkCopier`
            saw it first.
        parameters: By name, the parameter and a copy of its values.
        extra_states: Each module that has an extra state, and a copy of it.
        empty_buffers: The module and the name of each buffer that was None when `NetworkCopier` saw it first.
    """

    modes: dict[torch.nn.Module, bool]
    buffers: list[tuple[torch.nn.Module, str, torch.Tensor, torch.Tensor]]
    lazy_buffers: frozenset[tuple[torch.nn.Module, str]]
    parameters: dict[str, tuple[torch.nn.Parameter, torch.Tensor]]
    extra_states: list[tuple[torch.nn.Module, Any]]
    empty_buffers: frozenset[tuple[torch.nn.Module, str]]

    def restore(self) -> None:
        """Gives the network its former state, in place; it can be called several times."""
        restore_modes(self.modes)  # first, since train() of a module may change parameters: LoRA merges them
        with torch.no_grad():
            self._restore_buffers()
            for parameter, former in self.parameters.values():
                parameter.copy_(former)
        for module, state in self.extra_states:
            module.set_extra_state(copy.deepcopy(state))

    def changed_parameters(self) -> list[str]:
        """Returns the names of the copied parameters whose values differ now, in a bit at least."""
        return [name for name, (parameter, former) in self.parameters.items() if not _same_bits(parameter, former)]

    def _restore_buffers(self) -> None:
        known = self.lazy_buffers.union((module, name) for module, name, _, _ in self.buffers)
        for module in self.modes:
            for name in [name for name, _ in module.named_buffers(recurse=False) if (module, name) not in known]:
                if (module, name) in self.empty_buffers:
                    setattr(module, name, None)
                else:  # registered since
                    delattr(module, name)
        for module, name, buffer, former in self.buffers:
            if buffer.shape != former.shape:  # it was resized in place
                buffer.resize_(former.shape)
            setattr(module, name, buffer.copy_(former))


class NetworkCopier:
    """Copies the state of a network.

    A copy holds what a forward pass may change: the buffers (also those that are None or not persistent), the
    parameters that require no gradient (of a momentum encoder), the extra state of modules, and their modes. The
    optimizer alone changes the other parameters in most programs; they are copied on request.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        """Looks up once what every copy needs, which takes ten times as long as a copy.

        Args:
            network: The network.
        """
        self._network = network
        self._known: set[torch.nn.Module] = set()
        self._empty_buffers: frozenset[tuple[torch.nn.Module, str]] = frozenset()
        self._lazy_buffers: frozenset[tuple[torch.nn.Module, str]] = frozenset()
        self._look_up(list(network.modules()))

    def _look_up(self, modules: Sequence[torch.nn.Module]) -> None:
        """Looks up what is empty in modules that are new: also those that a forward pass has added since."""
        new = [module for module in modules if module not in self._known]
        self._known.update(new)
        self._empty_buffers = self._empty_buffers.union(
            (module, name)
            for module in new
            for name in set(dir(module)).difference(dir(type(module)))
            if is_empty_buffer(module, name)
        )
        self._lazy_buffers = self._lazy_buffers.union(
            (module, name) for module in new for name, buffer in module.named_buffers(recurse=False) if is_lazy(buffer)
        )

    def copy(self, with_trained_parameters: bool = False) -> NetworkCopy:
        """Copies the state as it is now.

        Args:
            with_trained_parameters: Whether the parameters that require a gradient are copied, too.

        Returns:
            The copy. Parameters and buffers of lazy modules that have no values yet are left out.
        """
        modes = modes_of(self._network)
        modules = list(modes)
        if not self._known.issuperset(modules):
            self._look_up(modules)
        return NetworkCopy(
            modes=modes,
            buffers=[
                (module, name, buffer, buffer.detach().clone())
                for module in modules
                for name, buffer in module.named_buffers(recurse=False)
                if not is_lazy(buffer)
            ],
            lazy_buffers=self._lazy_buffers,
            parameters={
                name: (parameter, parameter.detach().clone())
                for name, parameter in self._network.named_parameters()
                # A forward pass has copies of shards, and leaves them as they are.
                if not is_lazy(parameter)
                and (with_trained_parameters or not parameter.requires_grad)
                and not is_shard(parameter)
            },
            extra_states=self.extra_states(),
            empty_buffers=self._empty_buffers,
        )

    def extra_states(self) -> list[tuple[torch.nn.Module, Any]]:
        """Returns each module that has an extra state, and a copy of it."""
        return [
            (module, copy.deepcopy(module.get_extra_state()))
            for module in self._network.modules()
            if _has_extra_state(module)
        ]

    def tensors(self) -> list[torch.Tensor]:
        """Returns the tensors that a forward pass may change: buffers, and parameters that require no gradient."""
        return [tensor for tensor, _ in self._tensors_with_modes()]

    def versions(self) -> list[object]:
        """Returns, for each of `tensors`, a value that differs after a change of the tensor."""
        # torch counts changes in place, except those of a module in training mode: batch normalization isn't counted.
        return [
            object() if is_in_training else (id(tensor), tensor._version)
            for tensor, is_in_training in self._tensors_with_modes()
        ]

    def _tensors_with_modes(self) -> list[tuple[torch.Tensor, bool]]:
        buffers = [
            (buffer, module.training) for module in self._network.modules() for buffer in module.buffers(recurse=False)
        ]
        frozen = [(parameter, False) for parameter in self._network.parameters() if may_be_changed(parameter)]
        return [(tensor, mode) for tensor, mode in buffers + frozen if not is_lazy(tensor)]


def may_be_changed(parameter: torch.nn.Parameter) -> bool:
    """Returns whether a forward pass may change a parameter: it requires no gradient, and isn't a shard.

    Args:
        parameter: The parameter.
    """
    return not parameter.requires_grad and not is_shard(parameter)


def is_empty_buffer(module: torch.nn.Module, name: str) -> bool:
    """Returns whether a module has a buffer (or parameter, or submodule) of that name that is None.

    Args:
        module: The module.
        name: The name.
    """
    # Buffers, parameters and modules are no attributes of the object or its class; those that are None have no list.
    if name in vars(module) or hasattr(type(module), name):
        return False
    return getattr(module, name, module) is None


def _has_extra_state(module: torch.nn.Module) -> bool:
    return type(module).get_extra_state is not torch.nn.Module.get_extra_state


def _same_bits(first: torch.Tensor, second: torch.Tensor) -> bool:
    first, second = first.detach().contiguous(), second.contiguous()
    return torch.equal(first.view(-1).view(torch.uint8), second.view(-1).view(torch.uint8))
