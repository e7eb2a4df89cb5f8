"""How a process joins the others that a launcher such as torchrun has started, and leaves them."""

import atexit
import os
from datetime import timedelta

from torchbase.distributed.processes import Processes, SingleProcess
from torchbase.errors import ProcessError

TIME_LIMIT = timedelta(minutes=10)


def is_launched_with_others() -> bool:
    """Whether a launcher started this process as one of several: it has set ``RANK`` and ``WORLD_SIZE``."""
    return "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") not in ("", "1")


def local_index() -> int | None:
    """Returns the index of this process among those of its machine (``LOCAL_RANK``); None without a launcher."""
    return int(os.environ.get("LOCAL_RANK", "0")) if is_launched_with_others() else None


def local_count() -> int:
    """Returns the number of processes of the training on this machine (``LOCAL_WORLD_SIZE``)."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if is_launched_with_others() else 1


def join(has_own_gpu: bool = False) -> Processes:
    """Joins the other processes of the training, if a launcher has started several.

    A group that the program has initialized itself is used as it is. Otherwise the group is left when the process
    ends, since sessions after this one need it as well.

    Args:
        has_own_gpu: Whether no other process uses the GPU of this process. Tensors on it are then sent by NCCL.

    Returns:
        The processes; a `SingleProcess` without a launcher.

    Raises:
        ProcessError: If the others can't be reached.
    """
    if not is_launched_with_others():
        return SingleProcess()
    import torch.distributed as dist  # not before: it isn't needed by one process

    from torchbase.distributed.process_group import ProcessGroup

    if not dist.is_available():
        raise ProcessError("This build of torch lacks torch.distributed, so it can't train on several processes.")
    if not dist.is_initialized():
        try:
            dist.init_process_group("cpu:gloo,cuda:nccl" if has_own_gpu else "gloo", timeout=TIME_LIMIT)
        except (RuntimeError, ValueError) as error:
            address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
            raise ProcessError(
                f"Process {os.environ['RANK']} of {os.environ['WORLD_SIZE']} can't reach the others at {address}: "
                f"{error}. To fix, start all of them with torchrun, and choose a free port (--rdzv-endpoint)."
            ) from error
        atexit.register(_leave)
    return ProcessGroup()


def _leave() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()
