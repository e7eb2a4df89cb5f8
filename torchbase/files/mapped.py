"""Memory that is a file on the disk, for copies that would be too large for the memory of a machine."""

import mmap
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from torchbase.files.durable import os_errors_explained

_ALIGNMENT = 64


class MappedMemory:
    """Tensors in a file that has no name, so that nothing is left of it after any end of the process."""

    def __init__(self, folder: Path, like: Sequence[torch.Tensor]) -> None:
        """Reserves the place on the disk.

        Args:
            folder: The folder for the file.
            like: Dense tensors with the shapes and dtypes of those that it will hold.

        Raises:
            RunDirectoryError: If the operating system reports an error, such as a full disk.
        """
        self._places: list[int] = []
        size = 0
        for tensor in like:
            self._places.append(size)
            size += -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT
        with os_errors_explained("write a temporary file in", folder), tempfile.TemporaryFile(dir=folder) as file:
            _allocate(file.fileno(), max(1, size))
            self._memory = mmap.mmap(file.fileno(), max(1, size))

    def copy(self, position: int, tensor: torch.Tensor) -> torch.Tensor:
        """Copies a tensor into its place.

        Args:
            position: The position in ``like``.
            tensor: The tensor, on any device.

        Returns:
            The copy, whose memory is the file.
        """
        if not tensor.numel():
            return torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
        place = self._places[position]
        content = torch.frombuffer(self._memory, dtype=torch.uint8, count=tensor.nbytes, offset=place)
        return content.view(tensor.dtype).view(tensor.shape).copy_(tensor)


def _allocate(descriptor: int, size: int) -> None:
    # A file with holes would have no error when the disk is full: the process would end when it fills them.
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.truncate(descriptor, size)
