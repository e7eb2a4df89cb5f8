"""Tensors whose rows several processes hold: what each of them saves, and what is read from its files.

A process saves `Piece`s. A reader finds `SavedTensor`s: they read the rows that are asked for, and no others.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from torchbase.errors import RunDirectoryError
from torchbase.files.nested import Path, map_leaves

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Piece:
    """The rows of a tensor that one process holds.

    Attributes:
        rows: Contiguous rows of the tensor, maybe none.
        first: The number of the first of them.
        shape: The shape of the whole tensor.
    """

    rows: torch.Tensor
    first: int
    shape: Shape


class SavedTensor:
    """A tensor in files that are mapped into memory. Only the rows that are asked for are read.

    Attributes:
        shape: The shape.
        dtype: The dtype.
        is_sharded: Whether several processes held its rows when it was saved.
    """

    def __init__(self, pieces: Sequence[Piece], is_sharded: bool = True) -> None:
        """Joins pieces.

        Args:
            pieces: The pieces, in any order. Together they have each row once.
            is_sharded: See the attribute.

        Raises:
            RunDirectoryError: If rows are missing, come twice, or don't fit each other.
        """
        self.shape, self.dtype, self.is_sharded = pieces[0].shape, pieces[0].rows.dtype, is_sharded
        self._pieces = _in_order(pieces) if is_sharded else list(pieces)

    def rows(self, first: int, end: int) -> torch.Tensor:
        """Reads rows.

        Args:
            first: The number of the first row.
            end: The number after that of the last row.

        Returns:
            A new tensor of the rows, on the CPU.
        """
        found = torch.empty((max(0, end - first), *self.shape[1:]), dtype=self.dtype, device="cpu")
        for piece in self._pieces:
            start, stop = max(first, piece.first), min(end, piece.first + len(piece.rows))
            if start < stop:
                found[start - first : stop - first] = piece.rows[start - piece.first : stop - piece.first]
        return found

    def whole(self) -> torch.Tensor:
        """Reads the whole tensor. It is new, and on the CPU."""
        return self.rows(0, self.shape[0]) if self.is_sharded else self._pieces[0].rows.clone()


def split(parts: Any, share_of: Callable[[torch.Tensor], torch.Tensor | Piece]) -> tuple[Any, dict[Path, Piece]]:
    """Takes the pieces out of nested values.

    Args:
        parts: Tensors and plain values in nested containers.
        share_of: Takes a tensor. Returns the piece that this process holds, or the whole if each process holds it.

    Returns:
        The values with None in the place of each tensor that is sharded, and the pieces by their paths.
    """
    pieces: dict[Path, Piece] = {}

    def take(path: Path, value: Any) -> Any:
        share = share_of(value) if isinstance(value, torch.Tensor) else value
        if not isinstance(share, Piece):
            return share
        pieces[path] = share
        return None

    return map_leaves(parts, take), pieces


def join(parts: Any, files: Mapping[str, Mapping[Path, Piece]]) -> Any:
    """Puts the tensors back into nested values from which `split` took the pieces.

    Args:
        parts: The values.
        files: The pieces by path, by the name of their file.

    Returns:
        The values, with a `SavedTensor` in the place of each tensor.

    Raises:
        RunDirectoryError: If the pieces of a tensor don't make up the whole, or have no place.
    """
    found: dict[Path, list[Piece]] = {}
    for pieces in files.values():
        for path, piece in pieces.items():
            found.setdefault(path, []).append(piece)
    tensors: dict[Path, SavedTensor] = {}
    for path, of_path in found.items():
        try:
            tensors[path] = SavedTensor(of_path)
        except RunDirectoryError as error:
            raise RunDirectoryError(f"{', '.join(files)} don't hold the tensor {_name_of(path)}: {error}") from error
    placed = set()

    def put(path: Path, value: Any) -> Any:
        if path not in tensors:
            return value
        placed.add(path)
        return tensors[path]

    joined = map_leaves(parts, put)
    for path in tensors.keys() - placed:
        raise RunDirectoryError(f"{', '.join(files)} hold a tensor {_name_of(path)}, which the other files don't name")
    return joined


def in_memory(value: Any) -> Any:
    """Reads every saved tensor of nested values as a whole.

    Args:
        value: Saved tensors, tensors and plain values in nested containers.

    Returns:
        The same with tensors in memory.
    """
    return map_leaves(value, lambda _, one: one.whole() if isinstance(one, SavedTensor) else one)


def _in_order(pieces: Sequence[Piece]) -> list[Piece]:
    """Returns the pieces that have rows, from the first row on, if they make up the whole tensor."""
    whole = pieces[0]
    for piece in pieces:
        rows = piece.rows
        if piece.shape != whole.shape or rows.shape[1:] != piece.shape[1:] or rows.dtype != whole.rows.dtype:
            raise RunDirectoryError(
                f"its pieces don't fit each other: one has the shape {tuple(rows.shape)} and {rows.dtype}, of a tensor "
                f"of shape {piece.shape}, and the first is of a tensor of shape {whole.shape} and {whole.rows.dtype}"
            )
    filled = sorted((one for one in pieces if len(one.rows)), key=lambda one: one.first)
    end = 0
    for piece in filled:
        if piece.first != end:
            raise RunDirectoryError(f"row {min(piece.first, end)} of {whole.shape[0]} is not there exactly once")
        end += len(piece.rows)
    if end != whole.shape[0]:
        raise RunDirectoryError(f"row {min(end, whole.shape[0])} of {whole.shape[0]} is not there exactly once")
    return filled


def _name_of(path: Path) -> str:
    return ".".join(map(str, path))
