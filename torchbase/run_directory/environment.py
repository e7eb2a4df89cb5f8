"""Tells where and with what a run was done, so that it can be done again."""

import logging
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

_PACKAGES = ("torchbase", "torch", "datasets", "numpy", "tensorboard", "scikit-learn", "pluggy")
_GIT_SECONDS = 10
_COMMIT, _NO_COMMIT = "# branch.oid ", "(initial)"
_logger = logging.getLogger("torchbase")


def describe_environment() -> dict[str, Any]:
    """Describe the software, the machine and the command of this process.

    Returns:
        Plain values, ready for JSON:

        - ``python``, ``platform``, ``hostname``: texts.
        - ``packages``: the installed version by the name of the package, None where it isn't installed.
        - ``devices``: ``cpu_count``, ``thread_count`` (the threads that PyTorch computes with) and ``accelerators``
          (their names).
        - ``command_line``: the list of its words.
        - ``time``: now, in ISO 8601 with the time zone.
    """
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "hostname": socket.gethostname(),
        "packages": {name: _version_of(name) for name in _PACKAGES},
        "devices": {
            "cpu_count": os.cpu_count(),
            "thread_count": torch.get_num_threads(),
            "accelerators": _accelerator_names(),
        },
        "command_line": list(sys.argv),
        "time": datetime.now().astimezone().isoformat(),
    }


@contextmanager
def describing_code(folder: Path) -> Iterator[Callable[[], dict[str, Any] | None]]:
    """Ask git for the state of the code, and do something else meanwhile.

    It takes git some milliseconds, and far longer in a large repository.

    Args:
        folder: A folder of the repository, such as the current one.

    Yields:
        A function that waits for git. It returns ``commit`` (the whole hash) and ``dirty`` (whether a file that git
        knows differs from it), ready for JSON; None outside of a repository, before its first commit, or without git.
    """
    # Files that git doesn't know are left out: the directory of the run itself may be one. Without locks, so that this
    # never stands in the way of a git command that the user runs meanwhile.
    status = ("status", "--porcelain=v2", "--branch", "--no-ahead-behind", "--untracked-files=no")
    command = ["git", "--no-optional-locks", "-C", str(folder), *status]
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    try:
        git = subprocess.Popen(command, stdout=pipe, stderr=pipe, stdin=nothing)
    except OSError as error:
        _logger.debug("The commit of the code isn't known: %s", error)
        yield lambda: None
        return
    with git:
        try:
            yield partial(_answer_of, git)
        finally:
            git.kill()  # does nothing once it has ended


def _answer_of(git: "subprocess.Popen[bytes]") -> dict[str, Any] | None:
    try:
        output, complaint = git.communicate(timeout=_GIT_SECONDS)
    except subprocess.TimeoutExpired as error:
        _logger.debug("The commit of the code isn't known: %s", error)
        return None
    if git.returncode != 0:
        _logger.debug("The commit of the code isn't known: %s", complaint.decode(errors="replace").strip())
        return None
    state = output.decode(errors="replace").splitlines()
    commit = next((line.removeprefix(_COMMIT) for line in state if line.startswith(_COMMIT)), _NO_COMMIT)
    is_dirty = not all(line.startswith("#") for line in state)
    return None if commit == _NO_COMMIT else {"commit": commit, "dirty": is_dirty}


@cache  # what is installed is what was imported, and to read it takes longer than all else
def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _accelerator_names() -> list[str]:
    accelerator = torch.accelerator.current_accelerator()
    if accelerator is None:
        return []
    # Not every kind of accelerator can tell its model: then its kind has to do.
    name_of = getattr(torch.get_device_module(accelerator), "get_device_name", lambda index: accelerator.type)
    return [str(name_of(index)) for index in range(torch.accelerator.device_count())]
