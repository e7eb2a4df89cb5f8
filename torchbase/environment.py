"""Tells where and with what a run was done, so that it can be done again."""

import logging
import os
import platform
import socket
import subprocess
import sys
from datetime import datetime
from functools import cache
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


def describe_code(folder: Path) -> dict[str, Any] | None:
    """Ask git for the state of the code, which takes some milliseconds, and far longer in a large repository.

    Args:
        folder: A folder of the repository, such as the current one.

    Returns:
        ``commit`` (the whole hash) and ``dirty`` (whether a file that git knows differs from it), ready for JSON; None
        outside of a repository, before its first commit, or without git.
    """
    try:
        # Files that git doesn't know are left out: the directory of the run itself may be one.
        state = _git(folder, "status", "--porcelain=v2", "--branch", "--no-ahead-behind", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError) as error:
        _logger.debug("The commit of the code isn't known: %s", error)
        return None
    commit = next((line.removeprefix(_COMMIT) for line in state if line.startswith(_COMMIT)), _NO_COMMIT)
    is_dirty = not all(line.startswith("#") for line in state)
    return None if commit == _NO_COMMIT else {"commit": commit, "dirty": is_dirty}


def _git(folder: Path, *arguments: str) -> list[str]:
    # Without locks, so that this never stands in the way of a git command that the user runs meanwhile.
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, check=True, timeout=_GIT_SECONDS, stdin=subprocess.DEVNULL)
    return done.stdout.decode(errors="replace").splitlines()


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
