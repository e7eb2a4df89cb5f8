"""Creates the loader of a phase, by the type of its data."""

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

import torch

from torchbase.data.device_copies import StreamMover, has_streams
from torchbase.data.kinds import is_stream
from torchbase.data.loader import MiniBatchLoader
from torchbase.data.order import EpochOrder
from torchbase.data.own_order import OrderFunction, OwnOrder
from torchbase.data.own_order_loader import OwnOrderLoader
from torchbase.data.parts import WHOLE, PartsToRead
from torchbase.data.reading import Collate
from torchbase.data.repeatability import warn_unless_repeatable, warn_unless_resumable
from torchbase.data.spanning_order import SpanningOrder
from torchbase.data.streaming import StreamLoader
from torchbase.data.torch_stream import TorchStream
from torchbase.distributed.processes import ALONE, Processes
from torchbase.errors import ConfigError, DataError
from torchbase.randomness.run_randomness import Randomness

logger = logging.getLogger("torchbase")

if TYPE_CHECKING:
    from datasets import IterableDataset


class LoaderSettings(Protocol):
    """The settings of a session that its loaders need."""

    @property
    def mini_batch_size(self) -> int:
        """The number of samples in a mini-batch."""

    @property
    def validation_mini_batch_size(self) -> int | None:
        """The number of samples in a mini-batch of validation; None for the size of training."""

    @property
    def iterations_per_epoch(self) -> int | None:
        """The number of iterations in an epoch of training; None for one pass."""

    @property
    def drop_last(self) -> bool:
        """Whether to leave out a last mini-batch of a training epoch with fewer samples than the others."""

    @property
    def dataloader_num_workers(self) -> int:
        """The number of worker processes; 0 reads in the main process."""


def phase_loader(
    dataset: Any,
    phase: str,
    randomness: Randomness,
    settings: LoaderSettings,
    *,
    is_training: bool,
    parts: PartsToRead = WHOLE,
    processes: Processes = ALONE,
    collate: Collate | None = None,
    device: torch.device | None = None,
    order: OrderFunction | None = None,
) -> MiniBatchLoader | StreamLoader:
    """Creates the loader of a phase.

    Args:
        dataset: A dataset, which is shuffled for training, or a stream, which is never shuffled here; of `datasets`, of
            torch, or any object with ``__len__`` and ``__getitem__``.
        phase: The name of the phase.
        randomness: The seed of the run.
        settings: The sizes of mini-batches, the number of workers and, for training, the iterations per epoch.
        is_training: Whether this is the training phase. In validation, an epoch is always one pass.
        parts: In how many parts each mini-batch is read, and which of them this process reads.
        processes: The processes that read the parts together. The loader of a stream communicates for each mini-batch.
        collate: Collates a list of samples into a mini-batch.
        device: The device of the run. For a GPU, tensors are copied to pinned memory. Those of a dataset are then
            copied to the GPU while the previous mini-batch is in use; those of a stream are not.
        order: The user's order of a dataset. None shuffles the training set, and reads others in order.

    Returns:
        The loader.

    Raises:
        ConfigError: The config has ``iterations_per_epoch``, but the training set has an order of the user; or
            ``drop_last``, and it is a stream.
        DataError: There are more parts than samples in a mini-batch of training; ``drop_last`` leaves no mini-batch; a
            stream has an order.
    """
    size = settings.mini_batch_size
    if not is_training and settings.validation_mini_batch_size is not None:
        size = settings.validation_mini_batch_size
    iterations = settings.iterations_per_epoch if is_training else None
    drop_last = is_training and settings.drop_last
    is_gpu = device is not None and device.type == "cuda"
    _check_parts(parts.number, size, phase, is_training)
    options: dict[str, Any] = {
        "parts": parts,
        "collate": collate,
        "num_workers": settings.dataloader_num_workers,
        "pin_memory": is_gpu,
    }
    if is_stream(dataset):
        _check_stream(order, drop_last=drop_last)
        stream = _opened(dataset, phase, randomness, is_training=is_training)
        return StreamLoader(
            stream, size, phase, randomness, processes=processes, iterations_per_epoch=iterations, **options
        )
    if is_training:
        _check_training_set(dataset, size, randomness, iterations, order, drop_last=drop_last)
    # Not for a stream: its position counts the returned mini-batches, so prefetching would advance it.
    mover = StreamMover(device) if device is not None and has_streams(device) else None
    if order is None:
        passes = EpochOrder(len(dataset), size, is_training, phase, randomness, drop_last)
        epochs = passes if iterations is None else SpanningOrder(passes, iterations)
        return MiniBatchLoader(dataset, epochs, mover=mover, **options)
    own = OwnOrder(order, len(dataset), size, phase, randomness, drop_last=drop_last)
    return OwnOrderLoader(dataset, own, mover=mover, **options)


def _check_training_set(
    dataset: Any,
    mini_batch_size: int,
    randomness: Randomness,
    iterations: int | None,
    order: OrderFunction | None,
    *,
    drop_last: bool,
) -> None:
    from datasets import Dataset

    if iterations is not None and order is not None:
        raise ConfigError(
            f"session.iterations_per_epoch is {iterations}, but init_order decides on the mini-batches of each epoch. "
            "To fix, remove the key, or return None from init_order."
        )
    if len(dataset) < mini_batch_size and order is None:
        if drop_last:
            raise DataError(
                f"The training set has {len(dataset)} samples, fewer than a mini-batch of {mini_batch_size}, and "
                "session.drop_last leaves them out. To fix, lower session.mini_batch_size, or remove session.drop_last."
            )
        logger.warning(
            "The training set has %d samples, fewer than a mini-batch of %d, so each pass has one iteration. To fix, "
            "lower session.mini_batch_size.",
            len(dataset),
            mini_batch_size,
        )
    if not isinstance(dataset, Dataset):
        what = f"The first sample of training, of a {type(dataset).__name__},"
        warn_unless_repeatable(lambda: dataset[0], randomness.derive("reading", "training", "check"), what)


def _opened(dataset: Any, phase: str, randomness: Randomness, *, is_training: bool) -> "IterableDataset | TorchStream":
    from datasets import IterableDataset

    if isinstance(dataset, IterableDataset):
        return dataset
    stream = TorchStream(dataset, phase)
    if is_training:
        stream.check_begins_anew()
        stream.log_limits()
        what = f"the stream of {phase}, a {type(dataset).__name__},"
        seed = randomness.derive("reading", phase, "check")
        warn_unless_repeatable(lambda: next(stream.shard(1, 0).iter(), None), seed, f"The first example of {what}")
        if stream.has_state:
            warn_unless_resumable(stream, seed, f"T{what[1:]}")
    return stream


def _check_stream(order: OrderFunction | None, *, drop_last: bool) -> None:
    if drop_last:
        raise ConfigError(
            "session.drop_last is True, but the training set is a stream, whose shards have a last mini-batch each. "
            "To fix, remove the key, or set session.iterations_per_epoch and repeat the stream: stream.repeat(None)."
        )
    if order is not None:
        raise DataError(
            "init_order returned an order, but the training set is a stream, whose examples have no positions. To fix, "
            "return None, and order the stream itself: stream.shuffle(seed=…, buffer_size=…)."
        )


def _check_parts(parts: int, mini_batch_size: int, phase: str, is_training: bool) -> None:
    if parts <= mini_batch_size:
        return
    message = (
        f"A mini-batch of {phase} has {mini_batch_size} samples, fewer than its {parts} parts. To fix, use at most as "
        "many parts (session.mini_batch_parts; without it, one per process) as a mini-batch has samples."
    )
    if is_training:
        raise DataError(message)
    logger.warning("%s Until then, some parts are empty.", message)


def end_workers(loaders: Iterable[Any]) -> None:
    """Stops the workers of the loaders that `phase_loader` creates.

    Otherwise Python's garbage collector closes the queues before torch stops the workers, and torch waits five seconds
    for each worker.

    Args:
        loaders: The loaders of phases. Objects of other types are ignored.
    """
    for loader in loaders:
        if isinstance(loader, MiniBatchLoader | StreamLoader):
            loader.end_workers()
