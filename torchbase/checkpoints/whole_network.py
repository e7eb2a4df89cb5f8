"""The whole network of a sharded run, on the main process, without the memory for it."""

import logging
from typing import Any

import torch

from torchbase.distributed.done_together import do_together
from torchbase.distributed.shards import whole_of
from torchbase.engine.run import Run
from torchbase.engine.training_step import network_of
from torchbase.errors import RunDirectoryError
from torchbase.files.mapped import MappedMemory
from torchbase.files.nested import map_leaves

_logger = logging.getLogger("torchbase")


def whole_network(run: Run) -> Any | None:
    """Gathers a network whose parameters are sharded. All processes have to call it.

    Each process has one whole tensor at a time. The main process copies it into a file that is mapped into memory.

    Args:
        run: The run.

    Returns:
        On the main process, what the ``state_dict`` of the whole network would be, on the CPU. None on the others; if
        there is no run directory; or if the disk has no room for it, and such errors are only warnings.

    Raises:
        RunDirectoryError: If the disk has no room for it.
        ProcessError: If another process has ended or doesn't answer.
    """
    state = network_of(run).state_dict()
    tensors: list[torch.Tensor] = []
    map_leaves(state, lambda _, value: tensors.append(value) if _is_dense(value) else None)
    memory: list[MappedMemory] = []
    if not do_together(run.processes, lambda: _reserve(run, tensors, memory), "the memory of the best network")[0]:
        return None
    wholes = iter(range(len(tensors)))

    def gather(_: Any, value: Any) -> Any:
        position = next(wholes) if _is_dense(value) else None
        whole = whole_of(value)
        if not memory or not isinstance(whole, torch.Tensor):
            return whole if memory else None
        return whole.detach().clone().cpu() if position is None else memory[0].copy(position, whole)

    gathered = map_leaves(state, gather)
    return gathered if memory else None


def _reserve(run: Run, tensors: list[torch.Tensor], memory: list[MappedMemory]) -> bool:
    directory = run.run_directory
    if directory is None:
        return False
    try:
        memory.append(MappedMemory(directory.path, tensors))
    except RunDirectoryError as error:
        if directory.writes.on_error == "raise":
            raise
        _logger.warning("The training continues, and the best network isn't saved: %s", error)
        return False
    return True


def _is_dense(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.layout is torch.strided and not value.is_quantized
