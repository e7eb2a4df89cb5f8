"""Records what the network consists of."""

import logging
from collections.abc import Iterator

import torch
from torch.nn.parameter import is_lazy

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.named_optimizers import by_name
from torchbase.engine.optimizer_parameters import held_parameters
from torchbase.engine.run import Run
from torchbase.errors import RunDirectoryError
from torchbase.run_directory.network_record import (
    ModuleRecord,
    NetworkRecord,
    TensorRecord,
    describe_network,
    write_network,
)

logger = logging.getLogger("torchbase")


class NetworkSummary:
    """Writes the modules of the network with their parameters and buffers to ``network.json``, and logs a line.

    ``torchbase show`` prints them as a table. They are those at the start of the first epoch, when other hooks have
    frozen parameters. A parameter that is used in several places counts once. A disk error doesn't stop the training:
    the hook logs a warning.
    """

    main_process_only = True

    def __init__(self) -> None:
        self._is_written = False

    @hookimpl
    def on_run_start(self) -> None:
        """Begins anew."""
        self._is_written = False

    # Last, when all hooks have frozen or unfrozen parameters for the epoch.
    @hookimpl(trylast=True)
    def on_epoch_start(self, run: Run) -> None:
        """Writes the file and logs the line before the first epoch that is trained."""
        if self._is_written or run.network is None:
            return
        self._is_written = True
        record = record_network(run.network, run.optimizer)
        logger.info("network: %s", describe_network(record))
        if run.run_directory is not None:
            try:
                write_network(run.run_directory.path, record)
            except RunDirectoryError as error:
                logger.warning("The training continues, and `torchbase show` won't show the network: %s", error)


def record_network(network: torch.nn.Module, optimizer: torch.optim.Optimizer | None = None) -> NetworkRecord:
    """Records the modules of a network.

    Args:
        network: The network.
        optimizer: The optimizer, or several by name; None without one.

    Returns:
        The record.
    """
    of_modules: dict[str, dict[int, tuple[torch.Tensor, bool]]] = {}
    for name, tensor, is_buffer in _tensors_of(network, recurse=True):
        parts = name.split(".")
        for depth in range(len(parts)):
            of_modules.setdefault(".".join(parts[:depth]), {})[id(tensor)] = tensor, is_buffer
    seen: dict[int, str] = {}
    modules = tuple(
        _record_module(name, module, of_modules.get(name, {}), seen) for name, module in network.named_modules()
    )
    several = {name: one for name, one in by_name(optimizer).items() if name is not None}
    trained = {name: sum(map(_count, held_parameters(one).values())) for name, one in several.items()}
    return NetworkRecord(modules, trained)


def _tensors_of(module: torch.nn.Module, *, recurse: bool) -> Iterator[tuple[str, torch.Tensor, bool]]:
    for name, parameter in module.named_parameters(recurse=recurse, remove_duplicate=False):
        yield name, parameter, False
    for name, buffer in module.named_buffers(recurse=recurse, remove_duplicate=False):
        yield name, buffer, True


def _record_module(
    name: str, module: torch.nn.Module, within: dict[int, tuple[torch.Tensor, bool]], seen: dict[int, str]
) -> ModuleRecord:
    parameters = [tensor for tensor, is_buffer in within.values() if not is_buffer]
    tensors = []
    for one, tensor, is_buffer in _tensors_of(module, recurse=False):
        full_name = f"{name}.{one}".removeprefix(".")
        shape = None if is_lazy(tensor) else tuple(tensor.shape)
        dtype = str(tensor.dtype).removeprefix("torch.")
        first = seen.setdefault(id(tensor), full_name)
        same_as = None if first == full_name else first
        tensors.append(TensorRecord(one, shape, dtype, is_buffer, tensor.requires_grad, same_as))
    return ModuleRecord(
        name=name,
        kind=_name_of_class(module),
        parameters=sum(map(_count, parameters)),
        trainable=sum(_count(parameter) for parameter in parameters if parameter.requires_grad),
        size=sum(_count(tensor) * tensor.dtype.itemsize for tensor, _ in within.values()),
        tensors=tuple(tensors),
    )


def _count(tensor: torch.Tensor) -> int:
    return 0 if is_lazy(tensor) else tensor.numel()


def _name_of_class(module: torch.nn.Module) -> str:
    kind = type(module)
    # FSDP2 gives a unit of a sharded network a class of its own. It isn't imported here, since most runs don't need it.
    is_unit = kind.__name__.startswith("FSDP") and kind.__bases__[0].__name__ == "FSDPModule"
    return kind.__bases__[-1].__name__ if is_unit else kind.__name__
