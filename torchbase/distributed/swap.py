"""Two processes send each other their tensors, in one step."""

from collections.abc import Iterator, Sequence

import torch
import torch.distributed as dist


def swap(tensors: Sequence[torch.Tensor], group: dist.ProcessGroup | None) -> Iterator[torch.Tensor]:
    """Sends tensors to the other one of two processes, and receives those of that one.

    Args:
        tensors: Contiguous tensors, of the same shapes and dtypes on both processes.
        group: The group of both processes; None means the default group. It sends what is on the CPU.

    Yields:
        The tensors of the other process, in order, each as soon as it is there.
    """
    other = 1 - dist.get_rank()
    received = [torch.empty_like(tensor) for tensor in tensors]
    receiving = [dist.irecv(tensor, other, group) for tensor in received]
    sending = [dist.isend(tensor, other, group) for tensor in tensors]
    for tensor, work in zip(received, receiving, strict=True):
        _wait(work)
        yield tensor
    for work in sending:
        _wait(work)


def _wait(work: dist.Work | None) -> None:
    if work is not None:  # None on a process that isn't in the group
        work.wait()
