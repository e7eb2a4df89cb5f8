"""How much memory processes and devices use now, as the system and torch count it. Nothing waits for a device."""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from torchbase.errors import HookError

PROCESSES = Path("/proc")


def resident_memory(process_ids: Iterable[int]) -> int:
    """Returns the memory of the host that processes use: their resident set, with what they share with others.

    Linux has it in ``/proc``. Elsewhere, as on macOS, ``ps`` is called, which takes some milliseconds.

    Args:
        process_ids: The processes. Those that have ended use none.

    Returns:
        The sum, in bytes.

    Raises:
        HookError: If there is neither ``/proc`` nor ``ps``.
    """
    ids = [str(one) for one in process_ids]
    if (PROCESSES / "self/statm").exists():
        return sum(map(_resident_pages, ids)) * os.sysconf("SC_PAGE_SIZE")
    if not ids:
        return 0
    try:
        done = subprocess.run(["ps", "-o", "rss=", "-p", ",".join(ids)], capture_output=True, text=True, check=False)
        return sum(map(int, done.stdout.split())) * 1024
    except (OSError, ValueError) as error:
        raise HookError(
            f"The memory of a process can't be read on this system, {sys.platform}: there is no /proc, and ps failed "
            f"with {error!r}. To fix, remove MemoryMonitor."
        ) from error


def _resident_pages(process_id: str) -> int:
    try:
        return int((PROCESSES / process_id / "statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return 0


def peak_of_this_process() -> int:
    """Returns the most memory of the host that this process has used since its start, in bytes.

    Raises:
        HookError: If the system doesn't count it.
    """
    try:
        import resource  # which Windows lacks
    except ModuleNotFoundError as error:
        raise HookError(
            f"The memory of this process can't be read on this system, {sys.platform}. To fix, remove MemoryMonitor."
        ) from error
    in_bytes = sys.platform == "darwin"  # elsewhere it is in KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if in_bytes else 1024)


def worker_ids() -> list[int]:
    """Returns the processes that this one has started by ``multiprocessing``, such as the workers of its loaders."""
    return [child.pid for child in multiprocessing.active_children() if child.pid is not None]


def device_memory(device: torch.device) -> dict[str, int]:
    """Returns the memory of an accelerator that this process uses.

    Args:
        device: The device of the run.

    Returns:
        In bytes, what tensors use (``allocated``), what torch has reserved for them (``reserved``) and, if torch counts
        it, the most that was allocated since the last reset (``peak``). Nothing for a CPU.
    """
    if device.type == "cpu":
        return {}
    module: Any = torch.get_device_module(device)
    if device.type == "mps":
        return {"allocated": module.current_allocated_memory(), "reserved": module.driver_allocated_memory()}
    return {
        "allocated": module.memory_allocated(device),
        "reserved": module.memory_reserved(device),
        "peak": module.max_memory_allocated(device),
    }


def reset_peak(device: torch.device) -> None:
    """Resets the peak of an accelerator, if torch counts one.

    Args:
        device: The device of the run.
    """
    if device.type not in ("cpu", "mps"):
        torch.get_device_module(device).reset_peak_memory_stats(device)
