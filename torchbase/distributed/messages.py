"""Values as bytes of a fixed length, with which processes can exchange them in one step."""

import io
import pickle
from collections.abc import Sequence
from typing import Any

import torch

_LENGTH_BYTES = 8
_SMALLEST_CAPACITY = 1024
_LARGEST_CAPACITY = 2**16  # what is larger is sent in a second step, so that later values stay small


class Messages:
    """Packs values into messages of the same length on each process.

    A value that is too large for a message is sent in a second step, of which all processes know, since each message
    has the length of its value.
    """

    def __init__(self) -> None:
        self._capacity = _SMALLEST_CAPACITY

    def pack(self, content: bytes) -> torch.Tensor:
        """Packs a value.

        Args:
            content: The value as bytes.

        Returns:
            The message, bytes on the CPU whose number is a multiple of 16.
        """
        return message_of(content, self._capacity)

    def capacity_of_second_step(self, messages: torch.Tensor) -> int:
        """Returns the capacity of the second step that is needed, or 0 if no value is too large for its message.

        Args:
            messages: The messages of all processes, a row each.
        """
        longest = max(_length_of(row.tobytes()) for row in messages.numpy())
        if longest <= self._capacity:
            return 0
        capacity = 1 << (longest - 1).bit_length()
        self._capacity = min(capacity, _LARGEST_CAPACITY)
        return capacity


def message_of(content: bytes, capacity: int) -> torch.Tensor:
    """Packs bytes into a message; those beyond the capacity are left out.

    Args:
        content: The value as bytes.
        capacity: The number of bytes of a value in a message, the same on all processes.

    Returns:
        The message.
    """
    # Twice the length's bytes, so that numbers of any dtype are aligned after the message.
    size = capacity + 2 * _LENGTH_BYTES
    packed = (len(content).to_bytes(_LENGTH_BYTES, "little") + content[:capacity]).ljust(size, b"\0")
    return torch.frombuffer(bytearray(packed), dtype=torch.uint8)


def unpack(messages: torch.Tensor) -> list[bytes]:
    """Returns the values of whole messages, as bytes.

    Args:
        messages: The messages of all processes, a row each.
    """
    rows: Sequence[bytes] = [row.tobytes() for row in messages.numpy()]
    return [row[_LENGTH_BYTES : _LENGTH_BYTES + _length_of(row)] for row in rows]


def _length_of(row: bytes) -> int:
    return int.from_bytes(row[:_LENGTH_BYTES], "little")


def as_bytes(tensor: torch.Tensor) -> torch.Tensor:
    """Returns the bytes of a dense tensor, without a copy if it is contiguous.

    Args:
        tensor: The tensor.
    """
    return tensor.detach().contiguous().view(-1).view(torch.uint8)


def pickled(value: Any) -> bytes:
    """Returns a value as bytes, which `pickle.loads` reads.

    Args:
        value: Any value that can be pickled.
    """
    file = io.BytesIO()
    _Pickler(file, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    return file.getvalue()


class _Pickler(pickle.Pickler):
    """Pickles dense tensors as their bytes, without the rest of a memory that they are views of."""

    def reducer_override(self, value: Any) -> Any:
        if type(value) is not torch.Tensor or value.layout is not torch.strided or value.is_quantized:
            return NotImplemented
        on_host = value.detach().cpu().resolve_conj().resolve_neg()
        return _tensor_of, (as_bytes(on_host).numpy().tobytes(), value.dtype, tuple(value.shape))


def _tensor_of(content: bytes, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    if not content:  # frombuffer refuses it
        return torch.empty(shape, dtype=dtype, device="cpu")
    return torch.frombuffer(bytearray(content), dtype=dtype).view(shape)
