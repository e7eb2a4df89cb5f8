"""The default optimizer, and the checks of what ``init_optimizer`` returns."""

import logging
import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import torch

from torchbase.engine.named_optimizers import NamedOptimizers
from torchbase.engine.optimizer_parameters import held_parameters
from torchbase.engine.turns import ChooseTurns, Turns
from torchbase.errors import StepError, describe_returned

if TYPE_CHECKING:
    from torchbase.run_directory.session_config import SessionConfig

_logger = logging.getLogger("torchbase")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_EXAMPLE = '{"generator": …, "discriminator": …}'


def adam(network: torch.nn.Module, device: torch.device, config: "SessionConfig") -> torch.optim.Optimizer:
    """Makes the default optimizer.

    Args:
        network: The network.
        device: The device of the network.
        config: The learning rate and the weight decay.

    Returns:
        Adam. It is fused if all parameters are floating point and torch has a fused kernel for the device.
    """
    parameters = [one for one in network.parameters() if one.requires_grad]
    if not parameters:
        raise StepError("The network has no parameter that requires a gradient, so there is nothing to train.")
    has_fused_kernel = device.type in ("cpu", "cuda", "mps", "xpu") and all(p.is_floating_point() for p in parameters)
    if device.type == "cpu" and config.distributed == "shard":
        # The kernel of CPUs rounds the last elements of a tensor otherwise, and these depend on the number of shards.
        has_fused_kernel = False
    return torch.optim.Adam(
        parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=has_fused_kernel
    )


def check_optimizer(returned: object, network: torch.nn.Module, *, is_sharded: bool = False) -> torch.optim.Optimizer:
    """Checks the return value of ``init_optimizer``.

    Args:
        returned: The return value.
        network: The network.
        is_sharded: Whether the network is sharded over several processes.

    Returns:
        The optimizer; of a dictionary, `NamedOptimizers`.

    Raises:
        StepError: If it is neither an optimizer nor a dictionary of them, or one holds no parameter of the network. If
            a name can't be part of the name of a value. If two optimizers hold the same parameter, or several have to
            train a sharded network.
    """
    if not isinstance(returned, Mapping):
        optimizer = _checked(returned, "", network)
        _warn_of_others([optimizer], network)
        return optimizer
    if not returned:
        raise StepError(
            "init_optimizer has to return an optimizer, or a dictionary of them, but returned an empty dictionary, so "
            f"nothing would train. To fix, return e.g. {_EXAMPLE}."
        )
    if is_sharded:
        raise StepError(
            f"init_optimizer returned {len(returned)} optimizers by name, and a network that is sharded over several "
            "processes (session.distributed = 'shard') is trained with a single one. To fix, remove "
            "session.distributed, so that each process holds the whole network."
        )
    optimizers: dict[str, torch.optim.Optimizer] = {}
    for name, one in returned.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise StepError(
                f"init_optimizer returned an optimizer of the name {name!r}, and a name has to be a string that begins "
                "with a letter or digit and consists of ASCII letters, digits, '_', '-' and '.', since it is part of "
                f"the names of logged values. To fix, return e.g. {_EXAMPLE}."
            )
        optimizers[name] = _checked(one, f" '{name}'", network)
    _check_holds_each_once(optimizers, network)
    _warn_of_others(list(optimizers.values()), network)
    return NamedOptimizers(optimizers)


def turns_of(optimizer: torch.optim.Optimizer, choose: ChooseTurns | None) -> Turns | None:
    """Returns how the optimizers of a session take turns; None with a single one.

    Args:
        optimizer: What `check_optimizer` returned.
        choose: ``optimizer_turns`` of the session if it is overridden.

    Raises:
        StepError: If it is overridden for a single optimizer, which would always train.
    """
    if isinstance(optimizer, NamedOptimizers):
        return Turns(optimizer, choose)
    if choose is not None:
        raise StepError(
            "optimizer_turns is overridden, and init_optimizer returned a single optimizer, so it would never be "
            f"called. To fix, return a dictionary of optimizers by name, {_EXAMPLE}, or remove optimizer_turns."
        )
    return None


def _checked(optimizer: Any, name: str, network: torch.nn.Module) -> torch.optim.Optimizer:
    if not isinstance(optimizer, torch.optim.Optimizer):
        what = f", and its item{name} is" if name else ", but returned"
        raise StepError(
            "init_optimizer has to return a torch.optim.Optimizer, or a dictionary of them by name"
            f"{what} {describe_returned(optimizer)}."
        )
    held, of_network = held_parameters(optimizer), {id(parameter) for parameter in network.parameters()}
    if not held.keys() & of_network:
        raise StepError(
            f"The optimizer{name} of init_optimizer, {type(optimizer).__name__}, holds {_count(held)}, and none of "
            f"them is among the {len(of_network)} of the network, so the network would learn nothing. To fix, pass "
            "self.network.parameters() to the optimizer, not those of another network or of copies."
        )
    return optimizer


def _check_holds_each_once(optimizers: Mapping[str, torch.optim.Optimizer], network: torch.nn.Module) -> None:
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    holders: dict[int, str] = {}
    for name, optimizer in optimizers.items():
        for number in held_parameters(optimizer):
            if number in holders:
                what = f"the parameter '{names[number]}'" if number in names else "a parameter that isn't the network's"
                raise StepError(
                    f"The optimizers '{holders[number]}' and '{name}' both hold {what}, and it can have a gradient in "
                    "one turn only. To fix, pass each parameter to one optimizer, e.g. "
                    "self.network.generator.parameters()."
                )
            holders[number] = name


def _warn_of_others(optimizers: Collection[torch.optim.Optimizer], network: torch.nn.Module) -> None:
    of_network = {id(parameter) for parameter in network.parameters()}
    if others := {number for one in optimizers for number in held_parameters(one)} - of_network:
        _logger.warning(
            "The optimizer holds %s that isn't the network's. No checkpoint has their values, so a resumed run isn't "
            "exact. To fix, make them parameters of the network, or save them in the state_dict of a hook.",
            _count(others),
        )


def _count(parameters: Collection[object]) -> str:
    return "1 parameter" if len(parameters) == 1 else f"{len(parameters)} parameters"
