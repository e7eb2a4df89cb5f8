"""Functions that the loaders share: the ``DataLoader`` of torch, its workers, and the call of the collate function."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as IndexedDataset

from torchbase.data.importable import check_workers_can_import
from torchbase.errors import DataError, describe_returned

Collate = Callable[[list[Any]], Any]

# Ctrl-C, and what a config may name as the preemption_signal.
IGNORED_BY_WORKERS = ("SIGINT", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGHUP")


def prepare_worker(worker: int) -> None:
    """Prepares a worker: it obeys no signal but SIGTERM from the main process, and exits with that process.

    Ctrl-C, and the signals of many clusters, reach all processes of a program. The main process finishes its iteration
    first and can need the workers for it.

    A worker of torch detects the death of its parent only if the parent is alive when the worker starts to watch it.
    Without the watch here, workers would run forever if the main process is killed while it starts them. The parent of
    the operating system isn't always the main process: with the start method ``forkserver`` it is a server.

    Args:
        worker: The index of the worker, from 0.
    """
    for name in IGNORED_BY_WORKERS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    main_process = multiprocessing.parent_process()
    if main_process is None:
        return
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_exit_on_sigterm_from, args=(main_process.pid,), daemon=True).start()
    if not main_process.is_alive():
        os._exit(1)
    threading.Thread(target=_exit_after, args=(main_process,), daemon=True).start()


def _exit_on_sigterm_from(main_process: int | None) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != main_process:
        pass
    os._exit(0)


def _exit_after(main_process: BaseProcess) -> None:
    main_process.join()
    os._exit(1)


def data_loader(
    dataset: IndexedDataset[Any],
    requests: Iterable[Any],
    *,
    num_workers: int,
    pin_memory: bool,
    prepare_worker: Callable[[int], None] = prepare_worker,
) -> Iterable[Any]:
    """Creates a ``DataLoader`` for a dataset whose items are whole mini-batches.

    Without workers and pinned memory, the items are read without ``DataLoader``, since its overhead exceeds the time
    to read a small mini-batch.

    Args:
        dataset: The dataset. It is read in a worker or in the main process.
        requests: The indices of the items. They are iterated for each iteration of the loader. Workers receive them in
            turn.
        num_workers: The number of worker processes; 0 reads in the main process.
        pin_memory: Whether to copy tensors to pinned memory, for fast copies to a GPU.
        prepare_worker: Called at the start of each worker with the index of the worker, from 0.

    Returns:
        The loader. Its workers persist between epochs.

    Raises:
        DataError: If workers can't import what the dataset refers to.
    """
    if num_workers == 0 and not pin_memory:
        return _InThisProcess(dataset, requests)
    if num_workers > 0:
        check_workers_can_import(dataset)
    return _WithWorkers(
        dataset,
        sampler=requests,
        batch_size=None,
        collate_fn=_identity,
        num_workers=num_workers,
        pin_memory=pin_memory,
        persistent_workers=num_workers > 0,
        worker_init_fn=prepare_worker,
        generator=torch.Generator("cpu"),  # so that creating an iterator doesn't draw from the global generator
    )


class _WithWorkers(DataLoader[Any]):
    def __iter__(self) -> Any:
        # torch draws a seed on the default device, which has to be that of the generator.
        is_default = torch.get_default_device().type == "cpu"
        with nullcontext() if is_default else torch.device("cpu"):
            return super().__iter__()


class _InThisProcess:
    def __init__(self, dataset: IndexedDataset[Any], requests: Iterable[Any]) -> None:
        self._dataset, self._requests = dataset, requests

    def __iter__(self) -> Iterator[Any]:
        return map(self._dataset.__getitem__, self._requests)


def call_collate(collate: Collate, samples: list[Any]) -> Any:
    """Calls the user's collate function and checks its return value.

    Args:
        collate: The function.
        samples: The samples: dictionaries of their columns, or what a dataset of another kind returns.

    Returns:
        The mini-batch.

    Raises:
        DataError: The function returns None, or something that is read only once.
    """
    batch = collate(samples)
    if batch is None or isinstance(batch, Iterator):
        raise DataError(
            f"dataloader_collate_function has to return a mini-batch, but returned {describe_returned(batch)}. "
            'To fix, return the columns by name, e.g. {"image": images, "label": labels}, a tuple, or an object of '
            "your own."
        )
    return batch


def _identity(batch: Any) -> Any:
    # The mini-batch is complete; the default of torch would traverse it again.
    return batch
