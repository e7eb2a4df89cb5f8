"""What the processes of a session do together: join, share a run directory, and check that they are alike."""

import hashlib
import json
import logging
import platform
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from torchbase.distributed.joining import is_launched_with_others, join, local_count, local_index
from torchbase.distributed.processes import Processes
from torchbase.engine.run import Run
from torchbase.errors import ProcessesDifferError, RunDirectoryError
from torchbase.run_directory.devices import choose_device
from torchbase.run_directory.directory import RunDirectory
from torchbase.run_directory.followed import FollowedRunDirectory

if TYPE_CHECKING:
    from torchbase.run_directory.config import Config


Result = TypeVar("Result")


def join_with_device(device_name: str) -> tuple[Processes, torch.device]:
    """Joins the processes of a launcher, if there are several, and chooses the device of this process.

    Args:
        device_name: ``session.device_name``.

    Returns:
        The processes and the device.

    Raises:
        ConfigError: If this machine lacks the device.
        ProcessError: If the other processes can't be reached.
    """
    device = choose_device(device_name, local_index())
    if not is_launched_with_others():
        return join(), device
    is_gpu = device.type == "cuda"
    if is_gpu:
        torch.cuda.set_device(device)  # NCCL and libraries use the current device
    processes = join(has_own_gpu=is_gpu and local_count() <= torch.cuda.device_count())
    if not processes.is_main:  # the main process says it for all; errors are said by each
        logging.getLogger("torchbase").setLevel(logging.ERROR)
    return processes, device


def tell_result(processes: Processes, function: Callable[[], Result], purpose: str) -> Result:
    """Calls a function on the main process, and returns its result on each process.

    Args:
        processes: The processes.
        function: The function.
        purpose: What the result is, for the error if another process is elsewhere.

    Raises:
        ProcessError: If another process has ended or doesn't answer.
    """
    result: Result = processes.tell(function() if processes.is_main else None, purpose)
    return result


def open_together(processes: Processes, open_here: Callable[[], RunDirectory]) -> RunDirectory:
    """Makes or opens the run directory on the main process. The others follow it.

    Args:
        processes: The processes.
        open_here: Makes or opens the directory, on the main process only.

    Returns:
        The run directory.

    Raises:
        RunDirectoryError: If a process can't see the directory. It is raised on each process.
        ProcessError: If another process has ended or doesn't answer.
    """
    if processes.is_main:
        directory = open_here()
        processes.tell(directory.path, "the run directory")
        is_visible = True
    else:
        directory = followed = FollowedRunDirectory(processes.tell(None, "the run directory"))
        is_visible = followed.is_visible()
    _check_is_visible(directory, processes.gather((socket.gethostname(), is_visible), "a look at the run directory"))
    return directory


def _check_is_visible(directory: RunDirectory, seen: list[tuple[str, bool]]) -> None:
    blind = [f"process {index} on {host}" for index, (host, is_visible) in enumerate(seen) if not is_visible]
    if blind:
        raise RunDirectoryError(
            f"The main process, on {seen[0][0]}, has opened the run directory {directory.path}, but {', '.join(blind)} "
            "can't see it. To fix, pass a runs_parent_dir on a file system that all machines share, by the same path."
        )


def check_alike(processes: Processes, facts: Mapping[str, Any]) -> None:
    """Checks that facts are the same on each process.

    Args:
        processes: The processes.
        facts: Values by what they are, which can be pickled and compared.

    Raises:
        ProcessesDifferError: If some differ. It is raised on each process, and names them.
        ProcessError: If another process has ended or doesn't answer.
    """
    if processes.count == 1:
        return
    every = processes.gather(dict(facts), "the comparison of the processes")
    lines = [line for index, other in enumerate(every) for line in _differences(every[0], index, other)]
    if lines:
        listed = "\n".join(f"- {line}" for line in lines)
        raise ProcessesDifferError(
            f"The processes of this training differ from process 0:\n{listed}\nTo fix, start the same program with the "
            "same arguments, data and packages on each machine."
        )


def _differences(main: Mapping[str, Any], index: int, other: Mapping[str, Any]) -> Iterable[str]:
    for name in dict.fromkeys((*main, *other)):
        here, there = main.get(name, "missing"), other.get(name, "missing")
        if here != there:
            yield f"{name}: {there} on process {index}, {here} on process 0"


def facts_of_program(config: "Config", hooks: Mapping[str, object], session_class: type) -> dict[str, Any]:
    """Returns what has to be the same on each process before a run directory is made.

    Args:
        config: The config.
        hooks: The registered hooks by name.
        session_class: The class of the session.
    """
    return {
        **{f"config['{name}']": json.dumps(value, sort_keys=True) for name, value in config.as_given.items()},
        "the session's class": session_class.__qualname__,
        "the hooks": ", ".join(hooks),
        "Python": platform.python_version(),
        "torch": torch.__version__,
    }


def facts_of_run(run: Run, datasets: Mapping[str, object]) -> dict[str, Any]:
    """Returns what has to be the same on each process before training.

    Args:
        run: The run.
        datasets: The datasets by the names of their phases.
    """
    facts: dict[str, Any] = {f"the data of {name}": describe_dataset(dataset) for name, dataset in datasets.items()}
    facts["the hooks"] = ", ".join(run.hooks)
    if run.network is not None:
        state = run.network.state_dict()
        for name, tensor in state.items():
            if isinstance(tensor, torch.Tensor):
                facts[f"the network's '{name}'"] = f"{tuple(tensor.shape)}, bits {_hash_of(tensor)}"
    if run.optimizer is not None:
        groups = [
            {name: value for name, value in one.items() if name != "params"} for one in run.optimizer.param_groups
        ]
        facts["the optimizer"] = f"{type(run.optimizer).__name__} {groups}"
    return facts


def describe_dataset(dataset: object) -> str:
    """Describes a dataset by its type, length, columns and fingerprint, as far as it has them.

    Args:
        dataset: A dataset or a stream of `datasets`, or any other object.
    """
    described = [type(dataset).__name__]
    if hasattr(dataset, "__len__"):
        described.append(f"{len(dataset):,} rows")
    columns = getattr(dataset, "column_names", None)
    if columns:
        described.append(f"columns {columns}")
    shards = getattr(dataset, "num_shards", None) if not hasattr(dataset, "__len__") else None
    if shards is not None:
        described.append(f"{shards} shards")
    return ", ".join(described)


def _hash_of(tensor: torch.Tensor) -> str:
    on_host = tensor.detach().cpu()
    if on_host.layout is not torch.strided:
        on_host = on_host.to_dense()
    content = on_host.contiguous().view(-1).view(torch.uint8).numpy()
    return hashlib.sha256(content.tobytes()).hexdigest()[:12]
