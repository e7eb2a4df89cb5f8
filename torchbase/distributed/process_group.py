"""The processes of a training, which communicate through `torch.distributed`."""

import io
import pickle
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from torchbase.distributed.flat_sums import FlatSums
from torchbase.distributed.processes import Processes
from torchbase.distributed.tree_sum import TreeSum
from torchbase.errors import ProcessError

# torch 2.13 has renamed it.
_all_gather = dist.all_gather_single if hasattr(dist, "all_gather_single") else dist.all_gather_into_tensor
_LENGTH_BYTES = 8
_SMALLEST_CAPACITY = 1024
_LARGEST_CAPACITY = 2**16  # what is larger is sent in a second step, so that later values stay small


class ProcessGroup(Processes):
    """The processes of the default group of `torch.distributed`, which has to be initialized."""

    def __init__(self) -> None:
        self.index, self.count = dist.get_rank(), dist.get_world_size()
        self.host = socket.gethostname()
        self._capacity = _SMALLEST_CAPACITY
        self._now = time.monotonic()
        self._sums = FlatSums(self.count, self._exchange_chunks)

    def gather(self, value: Any, purpose: str = "a value") -> list[Any]:
        """Returns the values of all processes; see `Processes.gather`."""
        with self._errors_explained(purpose):
            sent = _pickled((purpose, time.monotonic(), value))
            received = [pickle.loads(one) for one in self._gather_bytes(sent)]
        for index, (other, _, _) in enumerate(received):
            if other != received[0][0]:
                raise ProcessError(
                    f"The processes are at different places of the program: process 0 communicates for "
                    f"{received[0][0]}, and process {index} for {other}. To fix, make each decision on values that are "
                    "the same on each process, or on one process with run.processes.tell(…)."
                )
        self._now = received[0][1]
        return [one for _, _, one in received]

    def tell_tensors(self, tensors: Sequence[torch.Tensor]) -> None:
        """Copies the values of tensors of the main process; see `Processes.tell_tensors`."""
        with self._errors_explained("the state of the network"), torch.no_grad():
            for device in dict.fromkeys(tensor.device for tensor in tensors):
                own = [tensor for tensor in tensors if tensor.device == device]
                flat = torch.cat([_as_bytes(tensor) for tensor in own])
                dist.broadcast(flat, src=0)
                if not self.is_main:
                    for tensor, content in zip(own, torch.split(flat, [one.nbytes for one in own]), strict=True):
                        # A copy, since a view of other bytes may not be aligned.
                        tensor.copy_(content.clone().view(tensor.dtype).view(tensor.shape))

    def now(self) -> float:
        """Returns the seconds of the clock of the main process; see `Processes.now`."""
        return self._now

    def reduce(
        self,
        tensors: Sequence[torch.Tensor | None],
        like: Sequence[torch.Tensor],
        levels: Sequence[int] | None = None,
    ) -> list[torch.Tensor | None]:
        """Adds tensors of all processes in a fixed order; see `Processes.reduce`."""
        levels = [0] * self.count if levels is None else levels
        with self._errors_explained("a sum of tensors"):
            sums, sparse = self._sums.add(tensors, like, levels)
        if sparse:  # only whole tensors can be sent
            own = [tensors[position] for position in sparse]
            total = TreeSum()
            for received, level in zip(self.gather(own, "a sum of sparse tensors"), levels, strict=True):
                total.add(received, level)
            for position, tensor in zip(sparse, total.total(), strict=True):
                sums[position] = tensor
        return sums

    def _gather_bytes(self, own: bytes) -> list[bytes]:
        received = self._gather_padded(own[: self._capacity], len(own), self._capacity)
        longest = max(length for length, _ in received)
        if longest > self._capacity:
            capacity = 1 << (longest - 1).bit_length()
            received = self._gather_padded(own, len(own), capacity)
            self._capacity = min(capacity, _LARGEST_CAPACITY)
        return [content[:length] for length, content in received]

    def _gather_padded(self, own: bytes, length: int, capacity: int) -> list[tuple[int, bytes]]:
        size = _LENGTH_BYTES + capacity
        sent = torch.frombuffer(
            bytearray(length.to_bytes(_LENGTH_BYTES, "little") + own.ljust(capacity, b"\0")), dtype=torch.uint8
        )
        received = torch.empty(self.count * size, dtype=torch.uint8, device="cpu")
        _all_gather(received, sent)
        whole = received.numpy().tobytes()
        starts = range(0, self.count * size, size)
        return [
            (
                int.from_bytes(whole[start : start + _LENGTH_BYTES], "little"),
                whole[start + _LENGTH_BYTES : start + size],
            )
            for start in starts
        ]

    def _exchange_chunks(self, flat: torch.Tensor, levels: Sequence[int]) -> torch.Tensor:
        # Each process adds up one chunk of all, so 2(W-1)/W of the data are sent, as in a ring of all-reduce.
        own_chunks = torch.empty_like(flat)
        dist.all_to_all_single(own_chunks, flat)
        total = TreeSum()
        for chunk, level in zip(own_chunks.chunk(self.count), levels, strict=True):
            total.add([chunk], level)
        _all_gather(flat, total.total()[0])
        return flat

    @contextmanager
    def _errors_explained(self, purpose: str) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # what torch.distributed raises for lost connections and time limits
            raise ProcessError(
                f"Process {self.index} of {self.count}, on {self.host}, can't reach another process, while it "
                f"communicates for {purpose}. Another process has probably ended: its error, above or in the folder "
                f"'errors' of the run directory, is the cause. torch reports: {error}"
            ) from error


def _as_bytes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().contiguous().view(-1).view(torch.uint8)


def _pickled(value: Any) -> bytes:
    file = io.BytesIO()
    _Pickler(file, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    return file.getvalue()


class _Pickler(pickle.Pickler):
    """Pickles dense tensors as their bytes, without the rest of a memory that they are views of."""

    def reducer_override(self, value: Any) -> Any:
        if type(value) is not torch.Tensor or value.layout is not torch.strided or value.is_quantized:
            return NotImplemented
        on_host = value.detach().cpu().resolve_conj().resolve_neg()
        return _tensor_of, (_as_bytes(on_host).numpy().tobytes(), value.dtype, tuple(value.shape))


def _tensor_of(content: bytes, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    if not content:  # frombuffer refuses it
        return torch.empty(shape, dtype=dtype, device="cpu")
    return torch.frombuffer(bytearray(content), dtype=dtype).view(shape)
