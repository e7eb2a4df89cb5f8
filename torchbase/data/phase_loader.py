"""Chooses what a phase iterates, by the kind of its data."""

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

import torch

from torchbase.data.device_copies import StreamMover, has_streams
from torchbase.data.loader import MiniBatchLoader
from torchbase.data.order import EpochOrder
from torchbase.data.reading import Collate
from torchbase.data.streaming import StreamLoader
from torchbase.errors import ConfigError
from torchbase.randomness import Randomness

logger = logging.getLogger("torchbase")

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset


class LoaderSettings(Protocol):
    """The settings of a session that its loaders need."""

    @property
    def mini_batch_size(self) -> int:
        """Samples in a mini-batch."""

    @property
    def validation_mini_batch_size(self) -> int | None:
        """Samples in a mini-batch of validation; None for as many as in training."""

    @property
    def iterations_per_epoch(self) -> int | None:
        """Iterations in an epoch of a stream; None for one pass."""

    @property
    def dataloader_num_workers(self) -> int:
        """Processes that read; 0 for none."""


def phase_loader(
    dataset: "Dataset | IterableDataset",
    phase: str,
    randomness: Randomness,
    settings: LoaderSettings,
    *,
    is_training: bool,
    collate: Collate | None = None,
    device: torch.device | None = None,
) -> MiniBatchLoader | StreamLoader:
    """Makes the loader of a phase.

    Args:
        dataset: A dataset, which is shuffled for training, or a stream, which comes as it is.
        phase: The name of the phase.
        randomness: The seed of the run.
        settings: The sizes of mini-batches, the number of workers and, for training, of iterations in an epoch.
        is_training: Whether it is the training phase. In validation an epoch is always one pass.
        collate: Makes a mini-batch of a list of samples.
        device: The device of the run. Where it is a GPU, tensors are put into pinned memory and, but for a stream,
            copied to it while the mini-batch before is in use.

    Returns:
        The loader.

    Raises:
        ConfigError: If the config gives ``iterations_per_epoch`` and the training set isn't a stream.
    """
    from datasets import IterableDataset

    size, workers = settings.mini_batch_size, settings.dataloader_num_workers
    if not is_training and settings.validation_mini_batch_size is not None:
        size = settings.validation_mini_batch_size
    iterations = settings.iterations_per_epoch if is_training else None
    is_gpu = device is not None and device.type == "cuda"
    if isinstance(dataset, IterableDataset):
        return StreamLoader(
            dataset,
            size,
            phase,
            randomness,
            iterations_per_epoch=iterations,
            collate=collate,
            num_workers=workers,
            pin_memory=is_gpu,
        )
    if iterations is not None:
        raise ConfigError(
            f"session.iterations_per_epoch is {iterations}, and the training set is a datasets.Dataset, an epoch of "
            "which is one pass. To fix, leave the key out, or give a stream: dataset.to_iterable_dataset()."
        )
    if is_training and len(dataset) < size:
        logger.warning(
            "The training set has %d samples, fewer than a mini-batch of %d: each epoch is one iteration. To change "
            "that, lower session.mini_batch_size.",
            len(dataset),
            size,
        )
    order = EpochOrder(len(dataset), size, is_training, phase, randomness)
    # A stream's position counts what was handed out, so that a look ahead would move it.
    mover = StreamMover(device) if device is not None and has_streams(device) else None
    return MiniBatchLoader(dataset, order, collate=collate, num_workers=workers, pin_memory=is_gpu, mover=mover)


def end_workers(loaders: Iterable[Any]) -> None:
    """Ends the workers of those loaders that `phase_loader` made.

    Left to Python's collector of cycles, torch would wait five seconds for each of them: their queues are then closed
    before they are told to end.

    Args:
        loaders: What phases iterate.
    """
    for loader in loaders:
        if isinstance(loader, MiniBatchLoader | StreamLoader):
            loader.end_workers()
