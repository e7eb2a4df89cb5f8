"""What the processes of a session do together: join, decide on the main process, and share a run directory."""

import logging
import pickle
import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import torch

from torchbase.checkpoints.listing import has_results
from torchbase.distributed.joining import has_others, join, local_count, local_index
from torchbase.distributed.members import Member
from torchbase.distributed.processes import Processes
from torchbase.errors import ProcessError, RunDirectoryError
from torchbase.run_directory.devices import check_is_not_shared, choose_device, model_of
from torchbase.run_directory.directory import RunDirectory
from torchbase.run_directory.error_files import add_process_note
from torchbase.run_directory.followed import FollowedRunDirectory

if TYPE_CHECKING:
    from torchbase.sharding.network import ShardedNetwork

logger = logging.getLogger("torchbase")

Result = TypeVar("Result")


def join_with_device(device_name: str) -> tuple[Processes, torch.device]:
    """Joins the other processes of the training, if there are several, and chooses the device of this process.

    Args:
        device_name: ``session.device_name``.

    Returns:
        The processes and the device.

    Raises:
        ConfigError: If this machine lacks the device, or several processes would share one that is named by its index.
        ProcessError: If the other processes can't be reached.
    """
    check_is_not_shared(device_name, local_count())
    device = choose_device(device_name, local_index())
    if has_others() and device.type == "cuda":
        torch.cuda.set_device(device)  # NCCL and libraries use the current device
    processes = join()
    processes.introduce(Member(socket.gethostname(), str(device), model_of(device), torch.get_num_threads()))
    if processes.is_main:
        _warn_of_unlike(processes)
    else:  # the main process says it for all; errors are said by each
        logger.setLevel(logging.ERROR)
    return processes, device


def _warn_of_unlike(processes: Processes) -> None:
    main = processes.members[0]
    for name in ("thread_count", "device_name"):
        values = [getattr(member, name) for member in processes.members]
        index = next((index for index, value in enumerate(values) if value != values[0]), None)
        if index is not None:
            what = "threads of torch" if name == "thread_count" else f"kind of {torch.device(main.device).type}"
            logger.warning(
                "The processes differ in their %s: process 0, on %s, has %s, and process %d, on %s, has %s. So the "
                "last bits of results can depend on which process computes them. To fix, %s.",
                what,
                main.host,
                values[0],
                index,
                processes.members[index].host,
                values[index],
                "set the environment variable OMP_NUM_THREADS on each machine"
                if name == "thread_count"
                else "use machines of one kind",
            )


def sharded_network(processes: Processes, device: torch.device, distributed: str) -> "ShardedNetwork | None":
    """Returns how the processes hold a network that is sharded over them; None if each holds all of it.

    Args:
        processes: The processes.
        device: The device of this process.
        distributed: ``session.distributed``.

    Raises:
        ConfigError: If this version of torch can't shard a network.
    """
    if distributed != "shard" or processes.count == 1:
        return None
    # Late, since both import FSDP2, which most runs don't need.
    from torchbase.sharding.checks import check_torch_can_shard
    from torchbase.sharding.network import ShardedNetwork

    check_torch_can_shard()
    return ShardedNetwork(processes, device)


def tell_result(processes: Processes, function: Callable[[], Result], purpose: str) -> Result:
    """Calls a function on the main process, and returns its result on each process.

    Args:
        processes: The processes.
        function: The function. Its result can be pickled.
        purpose: What the result is, for the error if another process is elsewhere.

    Raises:
        Exception: The error of the function, on each process.
        ProcessError: If another process has ended or doesn't answer.
    """
    if processes.count == 1:
        return function()
    if not processes.is_main:
        result, error = processes.tell(None, purpose)
        if error is not None:
            raise error
        return cast(Result, result)
    try:
        result = function()
    except Exception as error:  # raised on each process, so that all do the same after it
        add_process_note(error, processes.index, processes.count)
        processes.tell((None, _to_send(error)), purpose)
        raise
    processes.tell((result, None), purpose)
    return result


def _to_send(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception as problem:  # as of an exception with arguments of its own
        return ProcessError(f"process 0 failed: {type(error).__name__}: {error} ({problem})")
    return error


def open_together(processes: Processes, open_here: Callable[[], RunDirectory]) -> RunDirectory:
    """Makes or opens the run directory on the main process. The others follow it.

    Args:
        processes: The processes.
        open_here: Makes or opens the directory, on the main process only.

    Returns:
        The run directory.

    Raises:
        RunDirectoryError: If it can't be opened, or a process can't see it. It is raised on each process.
        ProcessError: If another process has ended or doesn't answer.
    """
    opened: list[RunDirectory] = []

    def open_and_describe() -> tuple[Path, str]:
        opened.append(open_here())
        return opened[0].path, secrets.token_hex(4)

    path, attempt = tell_result(processes, open_and_describe, "the run directory")
    directory = opened[0] if opened else FollowedRunDirectory(path)
    directory.errors.share(processes.index, processes.count, attempt)
    try:
        _check_is_visible(processes, directory)
    except BaseException:
        directory.remove_unless(has_results)
        directory.unlock()
        raise
    return directory


def _check_is_visible(processes: Processes, directory: RunDirectory) -> None:
    if processes.count == 1:
        return
    seen = processes.gather(directory.is_visible(), "a look at the run directory")
    blind = [f"process {index} on {processes.members[index].host}" for index, sees in enumerate(seen) if not sees]
    if blind:
        raise RunDirectoryError(
            f"The main process, on {processes.members[0].host}, has opened the run directory {directory.path}, but "
            f"{', '.join(blind)} can't see it. To fix, pass a runs_parent_dir on a file system that all machines "
            "share, by the same path."
        )
