"""Saves memory by computing activations twice."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.run import Run
from torchbase.engine.training_step import network_of
from torchbase.errors import HookError, did_you_mean, list_first
from torchbase.randomness.streams import isolate_rng, streams_restorer

_CONTAINERS = (torch.nn.ModuleList, torch.nn.ModuleDict, torch.nn.ParameterList, torch.nn.ParameterDict)

Buffers = Mapping[tuple[torch.nn.Module, str], torch.Tensor]


class ActivationCheckpointing:
    """Drops the activations within modules after the forward pass, and computes them again in the backward pass.

    For networks whose activations don't fit into memory, such as deep transformers. Of each module that matches, only
    the inputs stay in memory; while the backward pass is in a module, its activations are there as well. So memory
    falls to that of one module, and an iteration takes up to a third longer, since the forward pass runs twice.

    The result is the same, bit for bit. The second pass draws the same random numbers of torch, ``random`` and
    ``numpy.random``, such as those of dropout, and changes no buffer, such as the statistics of batch normalization:
    both passes start from the same buffers, and those of the first remain. A module that draws from a generator of its
    own, or changes other state, would compute something else in the second pass.

    A module that matches within another one that matches is no boundary of its own. In validation nothing changes. The
    modules keep their names and parameters; while the network trains, their class is a subclass of their own.

    Source: Chen et al., Training Deep Nets with Sublinear Memory Cost, https://arxiv.org/abs/1604.06174;
    https://docs.pytorch.org/docs/stable/checkpoint.html

    Example:
        >>> hook = ActivationCheckpointing("encoder.layers.*")
    """

    def __init__(self, pattern: str) -> None:
        """Sets the modules.

        Args:
            pattern: A pattern of names of modules, e.g. ``"encoder.layers.*"``.
        """
        self.name = f"activation_checkpointing {pattern}"  # unique, so that several can be registered
        self._pattern = pattern
        self._classes: list[tuple[torch.nn.Module, type[torch.nn.Module]]] = []

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Makes the modules drop their activations.

        Raises:
            HookError: If no module matches, or one that matches is never called or matches the pattern of another hook.
        """
        network = network_of(run)
        for name, module in _outermost(network, self._pattern).items():
            if isinstance(module, _CONTAINERS):
                raise HookError(
                    f"The module '{name}' of {type(network).__name__} is a {type(module).__name__}, which is never "
                    f"called. To fix, pass the pattern of what is in it, '{name}.*'."
                )
            if isinstance(module, _Checkpointed):
                raise HookError(
                    f"The module '{name}' of {type(network).__name__} matches '{self._pattern}' and the pattern of "
                    "another ActivationCheckpointing. To fix, pass patterns that have no module in common."
                )
            self._classes.append((module, type(module)))
            module.__class__ = _subclass_of(type(module))

    @hookimpl
    def on_run_end(self) -> None:
        """Gives the modules their classes back."""
        self._restore()

    @hookimpl
    def on_exception(self) -> None:
        """Gives the modules their classes back."""
        self._restore()

    def _restore(self) -> None:
        for module, original in self._classes:
            module.__class__ = original
        self._classes = []


class _Checkpointed:
    """What a module is, beside its own class, that drops its activations."""

    def forward(self, *inputs: Any, **named_inputs: Any) -> Any:
        compute = super().forward  # type: ignore[misc]
        if not torch.is_grad_enabled():
            return compute(*inputs, **named_inputs)
        buffers = _buffers_of(self)
        if torch.compiler.is_compiling() and not buffers:
            return checkpoint(compute, *inputs, use_reentrant=False, **named_inputs)
        return self._compute_from_state(compute, buffers, *inputs, **named_inputs)

    @staticmethod
    def _compute_from_state(compute: Callable[..., Any], buffers: Buffers, *inputs: Any, **named_inputs: Any) -> Any:
        contexts = partial(_contexts, buffers)
        return checkpoint(compute, *inputs, use_reentrant=False, context_fn=contexts, **named_inputs)


def _subclass_of(kind: type[torch.nn.Module]) -> type[torch.nn.Module]:
    # A class and not an attribute of the module, so that a copy of the module computes with the copy's parameters.
    # torch.compile can't compile what sets buffers, so it leaves that out.
    not_compiled = torch.compiler.disable(_Checkpointed._compute_from_state)  # type: ignore[no-untyped-call]
    attributes = {"_compute_from_state": staticmethod(not_compiled), "__module__": kind.__module__}
    return type(kind.__name__, (_Checkpointed, kind), {**attributes, "__doc__": kind.__doc__})


def _outermost(network: torch.nn.Module, pattern: str) -> dict[str, torch.nn.Module]:
    named = {name: module for name, module in network.named_modules() if name}
    matching = {name: module for name, module in named.items() if fnmatchcase(name, pattern)}
    if not matching:
        names = did_you_mean(pattern, named) or f" Available: {list_first(named, 10) or 'none'}."
        raise HookError(
            f"No module of {type(network).__name__} matches the pattern '{pattern}'.{names} To fix, pass a name of "
            "network.named_modules(), or a pattern such as 'encoder.layers.*'."
        )
    return {
        name: module for name, module in matching.items() if not any(name.startswith(f"{outer}.") for outer in matching)
    }


def _buffers_of(module: Any) -> Buffers:
    return {(one, name): buffer for one in module.modules() for name, buffer in one.named_buffers(recurse=False)}


def _contexts(before: Buffers) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    # Called right before the first pass.
    copies = {place: buffer.detach().clone() for place, buffer in before.items()}
    # torch.utils.checkpoint restores the streams of torch alone.
    return nullcontext(), _second_pass(copies, streams_restorer())


@contextmanager
def _second_pass(copies: Buffers, restore_draws: Callable[[], None]) -> Iterator[None]:
    # Other tensors, since autograd refuses a backward pass after its tensors were changed in place.
    after = {(module, name): getattr(module, name) for module, name in copies}
    with isolate_rng():
        try:
            _set(copies)
            restore_draws()
            yield
        finally:
            _set(after)


def _set(buffers: Buffers) -> None:
    for (module, name), buffer in buffers.items():
        setattr(module, name, buffer)
