"""The files of a checkpoint that several processes have written: one for each, with the rows that it holds.

``shards-00001-of-00004.pth`` of the process 1 has a dictionary from the path of a tensor, such as
``("network", "0.weight")``, to its rows, the number of the first row, and the shape of the whole tensor. In the files
of the parts, None is in the place of these tensors. The manifest names the files.
"""

from collections.abc import Mapping
from io import BufferedRandom
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

import torch

from torchbase.checkpoints.saved_tensors import Piece, SavedTensor, in_memory, join
from torchbase.errors import RunDirectoryError
from torchbase.files.nested import Path, map_leaves
from torchbase.files.tensors import map_tensors, read_tensors, save_tensors

if TYPE_CHECKING:
    from torchbase.checkpoints.manifest import Manifest


def shard_file(index: int, count: int) -> str:
    """Returns the name of the file of a process.

    Args:
        index: The index of the process, from 0.
        count: The number of processes.
    """
    return f"shards-{index:05d}-of-{count:05d}.pth"


def save_shard(file: BufferedRandom, pieces: Mapping[Path, Piece], path: FilePath) -> None:
    """Writes the pieces of a process.

    Args:
        file: A file that is open for writing.
        pieces: The pieces by the path of their tensor.
        path: The name of the file in an error.

    Raises:
        RunDirectoryError: If a piece can't be saved.
    """
    content = {key: {"rows": one.rows, "first": one.first, "shape": one.shape} for key, one in pieces.items()}
    save_tensors(file, content, path)


def read_parts(folder: FilePath, manifest: "Manifest") -> dict[str, Any]:
    """Reads the parts of a checkpoint into memory, with whole tensors.

    Args:
        folder: The folder of the checkpoint.
        manifest: Its manifest.

    Returns:
        The parts by name.

    Raises:
        RunDirectoryError: If a file is damaged, or holds something other than tensors and plain values.
    """
    names = manifest.files.keys() - set(manifest.shards)
    parts = {name.removesuffix(".pth"): read_tensors(folder / name) for name in manifest.files if name in names}
    return parts if not manifest.shards else {**in_memory(_joined(folder, manifest, parts))}


def open_parts(folder: FilePath, manifest: "Manifest") -> dict[str, Any]:
    """Maps the parts of a checkpoint into memory.

    Args:
        folder: The folder of the checkpoint.
        manifest: Its manifest.

    Returns:
        The parts by name, with a `SavedTensor` in the place of each tensor.

    Raises:
        RunDirectoryError: As `read_parts`.
    """
    names = manifest.files.keys() - set(manifest.shards)
    parts = {name.removesuffix(".pth"): map_tensors(folder / name) for name in manifest.files if name in names}
    return {**_joined(folder, manifest, map_leaves(parts, lambda _, value: _opened(value)))}


def _opened(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    return SavedTensor([Piece(value, 0, tuple(value.shape))], is_sharded=False)


def _joined(folder: FilePath, manifest: "Manifest", parts: dict[str, Any]) -> dict[str, Any]:
    files = {name: _pieces_in(folder / name) for name in manifest.shards}
    joined: dict[str, Any] = join(parts, files)
    return joined


def _pieces_in(file: FilePath) -> dict[Path, Piece]:
    content = map_tensors(file)
    try:
        pieces = {key: Piece(one["rows"], int(one["first"]), tuple(one["shape"])) for key, one in content.items()}
    except (AttributeError, TypeError, KeyError, ValueError) as error:
        raise RunDirectoryError(f"{file.name} doesn't hold shards: {type(error).__name__}: {error}") from error
    if not all(isinstance(one.rows, torch.Tensor) and one.rows.dim() and one.shape for one in pieces.values()):
        raise RunDirectoryError(f"{file.name} doesn't hold shards: a tensor without rows is among them")
    return pieces
