"""Records the distribution of tensors."""

from collections.abc import Mapping

import torch

from torchbase.distributed.shards import is_shard, whole_of
from torchbase.engine.run import Run


def log_histograms(run: Run, kind: str, tensors: Mapping[str, torch.Tensor], unit: str, step: int) -> None:
    """Logs how the values of tensors are distributed.

    Args:
        run: The run.
        kind: What the tensors are, e.g. ``weights``; the tag is ``training/KIND/NAME/UNIT``.
        tensors: Tensors by name, of any shape. NaN and infinite values are ignored, since they have no place on an
            axis.
        unit: What the steps count, ``iterations`` or ``epochs``.
        step: The iteration or epoch; the first is 1.
    """
    for name, tensor in tensors.items():
        if not run.processes.is_main and not is_shard(tensor):  # nothing is logged there
            continue
        values = whole_of(tensor.detach())  # one after the other, since they may not fit into memory together
        if not run.processes.is_main:
            continue
        values = values.coalesce().values() if values.is_sparse else values
        finite = values[torch.isfinite(values)]
        if finite.numel() > 0:
            run.call.log_histogram(run=run, tag=run.training.tag(f"{kind}/{name}", unit), values=finite, step=step)
