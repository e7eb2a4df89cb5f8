import errno
import os

import pytest
import torch

from torchbase.errors import RunDirectoryError
from torchbase.files import mapped
from torchbase.files.bitwise import different_values
from torchbase.files.mapped import MappedMemory
from torchbase.files.tensors import read_tensors, write_tensors

TENSORS = [
    torch.arange(6.0).reshape(2, 3),
    torch.tensor(7),
    torch.empty(0, 4),
    torch.arange(5, dtype=torch.bfloat16),
    torch.tensor([1 + 2j, 3 - 1j]),
    torch.tensor([True, False]),
    torch.arange(12.0).reshape(3, 4).T,
]


def test_copies_are_equal_and_can_be_written_as_any_tensor(tmp_path):
    memory = MappedMemory(tmp_path, TENSORS)
    copies = [memory.copy(position, one) for position, one in enumerate(TENSORS)]
    del memory  # the copies hold it
    assert different_values(copies, TENSORS) == []
    write_tensors(tmp_path / "file.pth", copies)
    assert different_values(read_tensors(tmp_path / "file.pth"), TENSORS) == []
    assert (tmp_path / "file.pth").stat().st_size < 10_000  # each with its own memory only


def test_the_file_has_no_name(tmp_path):
    memory = MappedMemory(tmp_path, TENSORS)
    memory.copy(0, TENSORS[0])
    assert list(tmp_path.iterdir()) == []


def test_without_tensors_there_is_nothing_to_copy(tmp_path):
    MappedMemory(tmp_path, [])


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system can't reserve room in a file")
def test_a_full_disk_is_an_error_before_anything_is_copied(tmp_path, monkeypatch):
    def fail(descriptor, start, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(mapped.os, "posix_fallocate", fail)
    with pytest.raises(RunDirectoryError, match=r"No space left on device\. To fix, free some space"):
        MappedMemory(tmp_path, TENSORS)
