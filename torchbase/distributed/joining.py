"""How a process joins the others that a launcher such as torchrun has started, and leaves them."""

import atexit
import os
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import cache, partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from torchbase.distributed.freed_memory import reuse_freed_memory
from torchbase.distributed.processes import Processes, SingleProcess
from torchbase.errors import ProcessError

if TYPE_CHECKING:
    from torchbase.distributed.process_group import ProcessGroup

Result = TypeVar("Result")

TIME_LIMIT = timedelta(minutes=10)
# What torchrun sets, and torch.distributed needs.
_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def has_others() -> bool:
    """Whether this process trains together with others.

    Either a launcher has started several, and says so in the environment variable ``WORLD_SIZE``, or the program has
    initialized a group of `torch.distributed` with several.
    """
    group = _group_of_program()
    return os.environ.get("WORLD_SIZE", "1") not in ("", "1") if group is None else group.get_world_size() > 1


def was_launched() -> bool:
    """Whether torchrun has started this process, alone or with others: it passes on the signals that it receives."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def local_index() -> int | None:
    """Returns the index of this process among those of its machine (``LOCAL_RANK``); None for a process alone."""
    if not has_others():
        return None
    group = _group_of_program()
    return _number("LOCAL_RANK", 0 if group is None else group.get_rank())


def local_count() -> int:
    """Returns the number of processes of the training on this machine (``LOCAL_WORLD_SIZE``)."""
    if not has_others():
        return 1
    group = _group_of_program()
    return _number("LOCAL_WORLD_SIZE", 1 if group is None else group.get_world_size())


def join() -> Processes:
    """Joins the other processes of the training, if there are several.

    A process joins once. It leaves when it ends, since each session of the program needs the others. If the program has
    initialized a group of `torch.distributed` itself, its processes are those of the training.

    Returns:
        The processes; a `SingleProcess` for a process alone.

    Raises:
        ProcessError: If the others can't be reached within `TIME_LIMIT`, or the launcher has set too little.
    """
    return _joined() if has_others() else SingleProcess()


@cache  # global, as the group of torch.distributed is
def _joined() -> "ProcessGroup":
    import torch.distributed as dist

    from torchbase.distributed.process_group import ProcessGroup  # not before: a process alone doesn't need it

    reuse_freed_memory()
    if not dist.is_available():
        raise ProcessError("This build of torch lacks torch.distributed, so it can't train on several processes.")
    if dist.is_initialized():
        # A group of torchbase's own, since that of the program may be unable to send what is on the CPU.
        where = f"Process {dist.get_rank()} of {dist.get_world_size()} can't reach the others in the program's group"
        make_group = partial(dist.new_group, backend="gloo", timeout=TIME_LIMIT)
    else:
        _check_variables()
        index, count, address, port = (os.environ[name] for name in _VARIABLES)
        where = f"Process {index} of {count} can't reach the others at {address}:{port}"
        make_group = partial(dist.init_process_group, _backend(), timeout=TIME_LIMIT)
        atexit.register(_leave)
    try:
        processes = ProcessGroup(_within_limit(make_group), TIME_LIMIT)
    except (RuntimeError, ValueError, TimeoutError) as error:
        raise ProcessError(
            f"{where}. It waits for {TIME_LIMIT.total_seconds():g} seconds. Each of them has to make the session, and "
            "the port has to be free. To fix, start all of them with torchrun, which chooses a free port. torch "
            f"reports: {error}"
        ) from error
    atexit.register(processes.leave)  # the others shouldn't wait for what else the program does at its end
    return processes


def _within_limit(function: Callable[[], Result]) -> Result:
    """Calls a function in a thread: torch waits without a limit for the answer of another server at its port."""
    results: list[Result] = []
    errors: list[Exception] = []

    def call() -> None:
        try:
            results.append(function())
        except Exception as error:  # raised below
            errors.append(error)

    thread = threading.Thread(target=call, name="torchbase joins", daemon=True)
    thread.start()
    thread.join(2 * TIME_LIMIT.total_seconds())  # torch waits for several things in turn, and says for which
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError("no answer")
    return results[0]


def _group_of_program() -> Any:
    """Returns `torch.distributed` if it is initialized."""
    dist = sys.modules.get("torch.distributed")
    return dist if dist is not None and dist.is_available() and dist.is_initialized() else None


def _backend() -> str:
    # NCCL can't send between two processes that use one GPU.
    has_own_gpu = torch.cuda.is_available() and local_count() <= torch.cuda.device_count()
    return "cpu:gloo,cuda:nccl" if has_own_gpu else "gloo"


def _check_variables() -> None:
    missing = [name for name in _VARIABLES if not os.environ.get(name)]
    if missing:
        raise ProcessError(
            f"The environment variable WORLD_SIZE is {os.environ.get('WORLD_SIZE')}, so this is one of several "
            f"processes, but {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set. To fix, start the "
            "processes with torchrun, which sets all of them; or, to train in this process alone, unset WORLD_SIZE."
        )
    index, count = _number("RANK", 0), _number("WORLD_SIZE", 1)
    if index >= count:
        raise ProcessError(f"The environment variable RANK is {index}, and has to be less than WORLD_SIZE, {count}.")


def _number(name: str, otherwise: int) -> int:
    text = os.environ.get(name, str(otherwise))
    if not text.isdecimal():
        raise ProcessError(
            f"The environment variable {name} is {text!r}, and has to be a whole number. To fix, start the processes "
            "with torchrun, which sets it."
        )
    return int(text)


def _leave() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()
