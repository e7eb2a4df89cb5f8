"""What the loaders have in common: torch's ``DataLoader`` as they use it, and the user's collate function."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as IndexedDataset

from torchbase.errors import DataError

Collate = Callable[[list[Any]], dict[str, Any]]


def prepare_worker(worker: int) -> None:
    """Prepares a worker: it leaves interruptions to the main process, and doesn't outlive that.

    Ctrl-C, and the SIGTERM of many clusters, reach all processes of a program. The main process finishes its iteration
    first, for which it may need the workers.

    Torch's worker notices that its parent died only if that was alive when the worker began to watch it. A parent that
    is killed while it starts its workers would leave them behind for ever.

    Args:
        worker: The number of the worker, from 0.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_the_main_process_says_so, daemon=True).start()
    parent = multiprocessing.parent_process()
    if parent is not None and os.getppid() != parent.pid:
        os._exit(1)


def _end_when_the_main_process_says_so() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


def data_loader(
    dataset: IndexedDataset[Any],
    requests: Iterable[Any],
    *,
    num_workers: int,
    pin_memory: bool,
    prepare_worker: Callable[[int], None] = prepare_worker,
) -> Iterable[Any]:
    """Makes torch's loader for a dataset that makes whole mini-batches itself.

    Without workers and pinned memory there is nothing for it to do but to ask the dataset, for which it takes longer
    than the reading of a small mini-batch does: then the dataset is asked without it.

    Args:
        dataset: What is asked for a mini-batch, in a worker or in the main process.
        requests: What it is asked for; iterated anew whenever the loader is. With workers the first request goes to
            the first of them, the next to the next, and so on around.
        num_workers: How many processes read ahead; 0 reads where the mini-batch is used.
        pin_memory: Whether to put tensors into pinned memory, for fast copies to a GPU.
        prepare_worker: What each worker begins with; it gets the worker's number, from 0.

    Returns:
        The loader, whose workers stay from one epoch to the next.
    """
    if num_workers == 0 and not pin_memory:
        return _InThisProcess(dataset, requests)
    return DataLoader(
        dataset,
        sampler=requests,
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=num_workers,
        pin_memory=pin_memory,
        persistent_workers=num_workers > 0,
        worker_init_fn=prepare_worker,
        generator=torch.Generator(),  # its own, so that making an iterator draws nothing from the global stream
    )


class _InThisProcess:
    def __init__(self, dataset: IndexedDataset[Any], requests: Iterable[Any]) -> None:
        self._dataset, self._requests = dataset, requests

    def __iter__(self) -> Iterator[Any]:
        return map(self._dataset.__getitem__, self._requests)


def collated(collate: Collate, samples: list[Any]) -> Mapping[str, Any]:
    """Lets the user's function make a mini-batch.

    Args:
        collate: The function.
        samples: The samples, each a dictionary of its columns.

    Returns:
        What it returned.

    Raises:
        DataError: If that is no dictionary.
    """
    batch = collate(samples)
    if not isinstance(batch, Mapping):
        raise DataError(
            f"dataloader_collate_function has to return a dictionary, and returned {type(batch).__name__}. "
            'To fix, return the columns by name, e.g. {"image": images, "label": labels}.'
        )
    return batch


def _as_it_is(batch: Any) -> Any:
    # The mini-batch is made already; torch's own function would walk through it once more.
    return batch
