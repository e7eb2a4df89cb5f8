"""Keeps mini-batches that went wrong in the run directory, so that they can be looked at."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch

from torchbase.durable_files import write_tensors
from torchbase.errors import TorchbaseError
from torchbase.run import Phase, Run

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


def keep_bad_mini_batch(run: Run, phase: Phase, mini_batch: int, reason: str) -> str:
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
    file = run.run_directory.file(f"{FOLDER}/{phase.name}-epoch-{run.epoch:06d}-mini-batch-{mini_batch:08d}.pth")
    if len(list(file.parent.iterdir())) >= MAXIMUM_KEPT and not file.exists():
        return f"It isn't kept: {file.parent} holds {MAXIMUM_KEPT} already."
    rows, values = phase.loader.read(run.epoch, mini_batch - 1)
    columns = {name: _plain(one) for name, one in values.items()} if isinstance(values, Mapping) else _plain(values)
    kept = {"phase": phase.name, "epoch": run.epoch, "mini_batch": mini_batch, "reason": reason, "rows": rows}
    try:
        write_tensors(file, {**kept, "values": columns})
    except TorchbaseError as error:
        return f"Its samples are the rows {rows} of {phase.name}; it could not be kept: {error}"
    return f"Its samples are the rows {rows} of {phase.name}; it is kept in {file}."


def _plain(value: Any) -> Any:
    """Turns what can't be kept (an image, an object) into its description."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, str | bytes | int | float | bool) else repr(value)
