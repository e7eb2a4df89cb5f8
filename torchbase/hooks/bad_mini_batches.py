"""Saves faulty mini-batches in the run directory for inspection."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from torchbase.data.loader import MiniBatchLoader
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.errors import TorchbaseError
from torchbase.files.tensors import write_tensors
from torchbase.run_directory.directory import RunDirectory
from torchbase.run_directory.names import BAD_MINI_BATCHES_FOLDER

MAXIMUM_SAVED = 10


@runtime_checkable
class IndexedLoader(Protocol):
    """A loader that can reread any mini-batch of any epoch."""

    def read(self, epoch: int, position: int) -> tuple[list[int], Any]:
        """Reads a mini-batch.

        Args:
            epoch: The epoch, from 1.
            position: The position of the mini-batch within the epoch, from 0.

        Returns:
            The rows of the samples in the data set, and the mini-batch.
        """


def save_bad_mini_batch(run: Run, phase: Phase, mini_batch: int, reason: str) -> str:
    """Saves a mini-batch of the current epoch, with the rows of its samples.

    Read ``bad_mini_batches/PHASE-epoch-…-mini-batch-….pth`` with ``torch.load(path, weights_only=True)``. The first
    ten mini-batches of a run are saved.

    Args:
        run: The run.
        phase: The phase of the mini-batch.
        mini_batch: The number of the mini-batch within the epoch, from 1.
        reason: What is wrong with the mini-batch.

    Returns:
        Sentences for a message: the path of the saved file, or why the mini-batch was not saved; and the columns that
        contain None.
    """
    if run.run_directory is None:
        return ""
    if not isinstance(phase.loader, IndexedLoader):
        return "It was not saved, because its loader can't reread it."
    try:
        rows, values = phase.loader.read(run.epoch, mini_batch - 1)
    except Exception as error:  # any error of a transform: it must not hide the reason of this call
        return f"It was not saved, because rereading it failed: {type(error).__name__}: {error}."
    name = f"{phase.name}-epoch-{run.epoch:06d}-mini-batch-{mini_batch:08d}.pth"
    content = {"phase": phase.name, "epoch": run.epoch, "mini_batch": mini_batch, "reason": reason, "rows": rows}
    outcome = _write(run.run_directory, name, {**content, "values": _plain(values)})
    faults = phase.loader.describe_none(rows) if isinstance(phase.loader, MiniBatchLoader) else []
    return " ".join([f"Its samples are the rows {rows} of {phase.name}; {outcome}.", *faults])


def _write(directory: RunDirectory, name: str, content: dict[str, Any]) -> str:
    try:
        file = directory.file(f"{BAD_MINI_BATCHES_FOLDER}/{name}")
        if len(list(file.parent.iterdir())) >= MAXIMUM_SAVED and not file.exists():
            return f"it was not saved, because {file.parent} already holds {MAXIMUM_SAVED} files"
        write_tensors(file, content)
    except (TorchbaseError, OSError) as error:
        return f"it could not be saved: {error}"
    return f"it is saved in {file}"


def _plain(value: Any) -> Any:
    """Replaces values that can't be saved (images, other objects) by their descriptions."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value) if value.dtype.kind in "biuf" else _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if type(value) in (type(None), str, bytes, int, float, bool) else repr(value)
