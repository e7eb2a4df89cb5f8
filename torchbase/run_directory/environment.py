"""A description of the machine, the software and the code of a run, for repeating the run."""

import logging
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from torchbase.distributed.members import Member

_PACKAGES = ("torchbase", "torch", "datasets", "numpy", "tensorboard", "scikit-learn", "pluggy")
_GIT_SECONDS = 10
_COMMIT, _NO_COMMIT = "# branch.oid ", "(initial)"
_logger = logging.getLogger("torchbase")


def describe_environment() -> dict[str, Any]:
    """Describes the software, the machine and the command of this process.

    Returns:
        Plain values, ready for JSON:

        - ``python``, ``platform``, ``hostname``: texts.
        - ``packages``: the installed version by package name; None for a package that isn't installed.
        - ``torch``: the build of PyTorch: its ``version`` (``"2.13.0+cu130"``), and the versions of ``cuda``
          (``"13.0"``) and ``cudnn`` (``92000``), None for a build without.
        - ``devices``: ``cpu_count``, ``cpu_capability`` (the instructions that PyTorch uses, such as ``"AVX2"``),
          ``thread_count`` (the threads that it uses) and ``accelerators`` (their names).
        - ``command_line``: the list of arguments, the program first.
        - ``program``: the whole ``command``, the interpreter first, and the ``folder`` in which it was started, for
          ``torchbase replay``.
        - ``time``: the current time, in ISO 8601 with the time zone.
    """
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "hostname": socket.gethostname(),
        "packages": {name: version_of(name) for name in _PACKAGES},
        "torch": {"version": str(torch.__version__), "cuda": torch.version.cuda, "cudnn": _cudnn_version()},
        "devices": {
            "cpu_count": os.cpu_count(),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "thread_count": torch.get_num_threads(),
            "accelerators": _accelerator_names(),
        },
        "command_line": list(sys.argv),
        "program": {"command": list(sys.orig_argv), "folder": os.getcwd()},
        "time": datetime.now().astimezone().isoformat(),
    }


def describe_processes(members: Sequence[Member]) -> list[dict[str, Any]]:
    """Describes the processes that train together, those of one machine in a row as one entry.

    Args:
        members: The processes, by index.

    Returns:
        Plain values, ready for JSON, by machine: its ``host``, the ``first`` process and the ``count`` of its
        processes, their ``devices``, and the ``thread_count`` of each.
    """
    described = []
    numbered = enumerate(members)
    for (host, thread_count), group in groupby(numbered, key=lambda one: (one[1].host, one[1].thread_count)):
        own = list(group)
        devices = [*dict.fromkeys(member.device for _, member in own)]
        one = {"host": host, "first": own[0][0], "count": len(own), "devices": devices, "thread_count": thread_count}
        described.append(one)
    return described


def differences_for_bits(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Lists what differs between two environments, and can change the last bits of results.

    Args:
        saved: The environment in which a run was trained; see `describe_environment`.
        now: The current one.

    Returns:
        Texts such as ``"1 thread of torch in place of 8"``.
    """
    before, after = saved["devices"], now["devices"]
    names = {"thread_count": "number of threads of torch", "cpu_capability": "kind of CPU"}
    return [
        f"another {name}, {after[key]} in place of {before[key]}"
        for key, name in names.items()
        if key in before and before[key] != after[key]
    ]


@contextmanager
def describing_code(folder: Path) -> Iterator[Callable[[], dict[str, Any] | None]]:
    """Runs git to find the state of the code, while the ``with`` body does something else.

    Git takes some milliseconds, and far longer in a large repository.

    Args:
        folder: A folder of the repository, such as the current one.

    Yields:
        A function that waits for git. It returns ``commit`` (the whole hash) and ``dirty`` (whether a tracked file
        differs from the commit), ready for JSON. It returns None outside a repository, before the first commit, and
        without git.
    """
    # Untracked files don't count: the run directory itself may be one. Without locks, this never blocks a git command
    # that the user runs meanwhile.
    status = ("status", "--porcelain=v2", "--branch", "--no-ahead-behind", "--untracked-files=no")
    command = ["git", "--no-optional-locks", "-C", str(folder), *status]
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    try:
        git = subprocess.Popen(command, stdout=pipe, stderr=pipe, stdin=nothing)
    except OSError as error:
        _logger.debug("The commit of the code is unknown: %s", error)
        yield lambda: None
        return
    with git:
        try:
            yield partial(_read_state, git)
        finally:
            git.kill()  # does nothing once it has ended


def _read_state(git: "subprocess.Popen[bytes]") -> dict[str, Any] | None:
    try:
        output, errors = git.communicate(timeout=_GIT_SECONDS)
    except subprocess.TimeoutExpired as error:
        _logger.debug("The commit of the code is unknown: %s", error)
        return None
    if git.returncode != 0:
        _logger.debug("The commit of the code is unknown: %s", errors.decode(errors="replace").strip())
        return None
    state = output.decode(errors="replace").splitlines()
    commit = next((line.removeprefix(_COMMIT) for line in state if line.startswith(_COMMIT)), _NO_COMMIT)
    is_dirty = not all(line.startswith("#") for line in state)
    return None if commit == _NO_COMMIT else {"commit": commit, "dirty": is_dirty}


@cache  # versions don't change while the process runs, and reading them takes longest
def version_of(package: str) -> str | None:
    """Returns the version of an installed package; None if it isn't installed.

    Args:
        package: Its name.
    """
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cudnn_version() -> int | None:
    cudnn: Any = torch.backends.cudnn  # its functions have no types
    try:
        version_number: int | None = cudnn.version()
    except RuntimeError as error:  # the installed cuDNN isn't one that this build can use
        _logger.debug("The version of cuDNN is unknown: %s", error)
        return None
    return version_number


def _accelerator_names() -> list[str]:
    accelerator = torch.accelerator.current_accelerator()
    if accelerator is None:
        return []
    # Some kinds of accelerator have no name for the model. Their kind takes its place.
    name_of = getattr(torch.get_device_module(accelerator), "get_device_name", lambda index: accelerator.type)
    return [str(name_of(index)) for index in range(torch.accelerator.device_count())]
