"""What can be sharded: errors before training, which say how to fix it."""

from collections.abc import Sequence

import torch
from torch.distributed.fsdp import FSDPModule
from torch.nn.parameter import is_lazy

from torchbase.errors import ConfigError, StepError, describe_returned, list_first

NEEDED_OF_FSDP = (
    *("set_custom_all_gather", "set_custom_reduce_scatter"),
    *("set_gradient_divide_factor", "set_force_sum_reduction_for_comms"),
)


def check_torch_can_shard() -> None:
    """Checks that this version of torch has what a sharded network needs.

    Raises:
        ConfigError: If it lacks some of it.
    """
    missing = [name for name in NEEDED_OF_FSDP if not hasattr(FSDPModule, name)]
    if missing:
        raise ConfigError(
            f"session.distributed is 'shard', and torch {torch.__version__} lacks what a sharded network needs "
            f"(FSDPModule.{missing[0]}). To fix, install a newer torch, or set session.distributed to 'replicate'."
        )


def check_can_be_sharded(network: torch.nn.Module) -> None:
    """Checks that the parameters of a network can be sharded.

    Args:
        network: The network, as it was built.

    Raises:
        StepError: If one of them can't. The message says how to fix it.
    """
    lazy = [name for name, one in (*network.named_parameters(), *network.named_buffers()) if is_lazy(one)]
    if lazy:
        raise StepError(
            f"The network has lazy modules ({list_first(map(repr, lazy))}), and a sharded network (session.distributed "
            "is 'shard') can't be completed by a forward pass, since no process holds it. To fix, use modules with "
            "given sizes, such as Linear in place of LazyLinear."
        )
    for name, module in network.named_modules():
        if getattr(module, "sparse", False) is True and isinstance(module, torch.nn.Embedding | torch.nn.EmbeddingBag):
            raise StepError(
                f"The gradient of the {type(module).__name__} '{name}' is sparse, and that of a sharded network "
                "(session.distributed is 'shard') has to be dense. To fix, create it with sparse=False."
            )
    for name, parameter in network.named_parameters():
        if not parameter.is_contiguous():
            raise StepError(
                f"The parameter '{name}' isn't contiguous (strides {parameter.stride()}), so its rows can't be "
                "sharded (session.distributed is 'shard'). To fix, build the network without another memory format "
                "or transposed parameters."
            )


def check_units(network: torch.nn.Module, returned: object) -> list[torch.nn.Module]:
    """Checks the units into which a network is cut.

    Args:
        network: The network.
        returned: What ``sharded_units`` returned.

    Returns:
        The units, from the outside to the inside, without the network itself.

    Raises:
        StepError: If they aren't modules of the network with parameters of their own, or if numbers of several types
            are trained in one unit.
    """
    if not isinstance(returned, list | tuple) or not all(isinstance(one, torch.nn.Module) for one in returned):
        raise StepError(
            f"sharded_units has to return a list of modules, but returned {describe_returned(returned)}. To fix, "
            "return some of network.modules()."
        )
    names = {module: name for name, module in network.named_modules()}
    chosen = set(returned)
    for one in returned:
        if one not in names:
            raise StepError(f"sharded_units returned a {type(one).__name__} that isn't a module of the network.")
        if isinstance(one, torch.nn.ModuleList | torch.nn.ModuleDict):
            raise StepError(
                f"sharded_units returned '{names[one]}', a {type(one).__name__}, which is never called. To fix, return "
                "the modules in it."
            )
    units = [module for module in names if module in chosen and module is not network]
    _check_unit_by_unit(network, units, names)
    return units


def _check_unit_by_unit(
    network: torch.nn.Module, units: Sequence[torch.nn.Module], names: dict[torch.nn.Module, str]
) -> None:
    owners: dict[torch.nn.Parameter, tuple[torch.nn.Module, str]] = {}
    dtypes: dict[torch.nn.Module, tuple[torch.dtype, str]] = {}
    chosen = set(units)
    for path, parameter in network.named_parameters(remove_duplicate=False):
        modules = [network.get_submodule(prefix) for prefix in _prefixes(path)]
        unit = next((one for one in reversed(modules) if one in chosen), network)
        owner, first = owners.setdefault(parameter, (unit, path))
        if owner is not unit:
            raise StepError(
                f"The parameter '{path}' is also '{first}', and both are in different units of the sharded network: "
                f"{_named(unit, network, names)} and {_named(owner, network, names)}. To fix, return units from "
                "sharded_units that have all places of the parameter, or leave both out."
            )
        if parameter.requires_grad and parameter.dim() and parameter.numel():
            dtype, other = dtypes.setdefault(unit, (parameter.dtype, path))
            if dtype != parameter.dtype:
                raise StepError(
                    f"The parameters '{other}' ({dtype}) and '{path}' ({parameter.dtype}) are trained in one unit of "
                    f"the sharded network, {_named(unit, network, names)}, and have different types. To fix, return "
                    "the modules of one type as units of their own from sharded_units."
                )


def _prefixes(path: str) -> list[str]:
    names = path.split(".")
    return [".".join(names[:length]) for length in range(len(names))]


def _named(module: torch.nn.Module, network: torch.nn.Module, names: dict[torch.nn.Module, str]) -> str:
    return "the rest of the network" if module is network else f"'{names[module]}'"
