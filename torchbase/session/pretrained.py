"""The call of ``load_pretrained``, and the checks of what it did to the network."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from torchbase.errors import StepError, describe_returned, list_first


class _Facts(NamedTuple):
    shape: tuple[int, ...]
    dtype: torch.dtype
    requires_grad: bool


def load_checked(network: torch.nn.Module, load: Callable[[torch.nn.Module], Any]) -> None:
    """Calls the user's method, and checks that it loaded values, and changed nothing else.

    It isn't called when a run is resumed, so anything else that it changed would be missing then.

    Args:
        network: The network that ``init_network`` returned.
        load: The method.

    Raises:
        StepError: If it returned something, changed something else than values, or changed no value.
    """
    facts, modes, values = _facts_of(network), _modes_of(network), _values_of(network)
    returned = load(network)
    if returned is not None:
        raise StepError(
            f"load_pretrained has to load weights into the network that it receives, and returned "
            f"{describe_returned(returned)}, which isn't used. To fix, call network.load_state_dict(…) in it, and "
            "return nothing."
        )
    after, modes_after = _facts_of(network), _modes_of(network)
    changed = [name for name in dict.fromkeys((*facts, *after)) if facts.get(name) != after.get(name)]
    changed += [name or "the network" for name in modes if modes[name] != modes_after.get(name)]
    if changed:
        raise StepError(
            f"load_pretrained changed more than values: the shapes, dtypes, requires_grad or modes of "
            f"{list_first(changed)}. It isn't called when the run is resumed, so this would be missing then. To fix, "
            "do it in init_network."
        )
    if facts and values == _values_of(network):
        raise StepError(
            "load_pretrained changed no parameter and no buffer of the network. To fix, load the weights into the "
            "network that it receives, and check their names: load_state_dict(…, strict=False) returns which it missed."
        )


def _tensors_of(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    named = (*network.named_parameters(remove_duplicate=False), *network.named_buffers(remove_duplicate=False))
    return dict(named)


def _facts_of(network: torch.nn.Module) -> dict[str, _Facts]:
    return {name: _Facts(tuple(one.shape), one.dtype, one.requires_grad) for name, one in _tensors_of(network).items()}


def _modes_of(network: torch.nn.Module) -> dict[str, tuple[type, bool]]:
    return {name: (type(module), module.training) for name, module in network.named_modules()}


def _values_of(network: torch.nn.Module) -> list[object]:
    """Returns what differs after values were set: in place, by another tensor, or past the count of torch."""
    # Batch normalization sets its count to itself when a state lacks it.
    buffers = [_sum_of(one) for one in network.buffers()]
    return [*buffers, *((id(one), one._version, _sum_of(one)) for one in network.parameters())]


def _sum_of(tensor: torch.Tensor) -> float:
    is_float8 = tensor.is_floating_point() and tensor.element_size() == 1
    if tensor.layout is not torch.strided or tensor.is_complex() or tensor.is_meta or is_float8:
        return 0.0
    number = float(tensor.detach().sum(dtype=torch.float64))
    return 0.0 if math.isnan(number) else number  # NaN isn't equal to itself
