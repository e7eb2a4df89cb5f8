"""Keeps mini-batches that went wrong in the run directory, so that they can be looked at."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.errors import TorchbaseError
from torchbase.files.tensors import write_tensors
from torchbase.run_directory.directory import RunDirectory

FOLDER = "bad_mini_batches"
MAXIMUM_KEPT = 10


@runtime_checkable
class IndexedLoader(Protocol):
    """A loader that can read any mini-batch of any epoch again."""

    def read(self, epoch: int, position: int) -> tuple[list[int], Any]:
        """Reads a mini-batch.

        Args:
            epoch: The epoch; the first is 1.
            position: The mini-batch within it; the first is 0.

        Returns:
            The rows of its samples, and the mini-batch.
        """


def save_bad_mini_batch(run: Run, phase: Phase, mini_batch: int, reason: str) -> str:
    """Keeps a mini-batch of the current epoch, with the rows of its samples.

    ``bad_mini_batches/PHASE-epoch-…-mini-batch-….pth`` is read with ``torch.load(path, weights_only=True)``. The first
    ten of a run are kept.

    Args:
        run: The run.
        phase: The phase that it belongs to.
        mini_batch: Its number within the epoch; the first is 1.
        reason: What is wrong with it.

    Returns:
        A sentence that says where it is kept, or why it isn't.
    """
    if run.run_directory is None:
        return ""
    if not isinstance(phase.loader, IndexedLoader):
        return "It isn't kept, because its loader can't read it again."
    try:
        rows, values = phase.loader.read(run.epoch, mini_batch - 1)
    except Exception as error:  # whatever a transform raises: it isn't to hide why this was called
        return f"It isn't kept, because reading it again failed: {type(error).__name__}: {error}."
    name = f"{phase.name}-epoch-{run.epoch:06d}-mini-batch-{mini_batch:08d}.pth"
    kept = {"phase": phase.name, "epoch": run.epoch, "mini_batch": mini_batch, "reason": reason, "rows": rows}
    what_became = _write(run.run_directory, name, {**kept, "values": _plain(values)})
    return f"Its samples are the rows {rows} of {phase.name}; {what_became}."


def _write(directory: RunDirectory, name: str, kept: dict[str, Any]) -> str:
    try:
        file = directory.file(f"{FOLDER}/{name}")
        if len(list(file.parent.iterdir())) >= MAXIMUM_KEPT and not file.exists():
            return f"it isn't kept: {file.parent} holds {MAXIMUM_KEPT} already"
        write_tensors(file, kept)
    except (TorchbaseError, OSError) as error:
        return f"it could not be kept: {error}"
    return f"it is kept in {file}"


def _plain(value: Any) -> Any:
    """Turns what can't be kept (an image, an object) into its description."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value) if value.dtype.kind in "biuf" else _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if type(value) in (type(None), str, bytes, int, float, bool) else repr(value)
