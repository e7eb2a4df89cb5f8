"""Reads the file in which Weights & Biases stores a run, to find which values it already has.

The file is a log in LevelDB's format, https://github.com/google/leveldb/blob/main/doc/log_format.md, after a header of
seven bytes. Its records are W&B's protocol buffers.
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torchbase.optional_packages import load

_FILE_HEADER_SIZE = 7
_BLOCK_SIZE = 2**15
_CHUNK_HEADER = struct.Struct("<IHB")  # checksum, length, kind
_WHOLE, _FIRST, _LAST = 1, 2, 4

Row = dict[str, Any]


class WandbFile:
    """Reads the rows of a ``run-ID.wandb`` file, each row once, while the file grows.

    Attributes:
        has_ended: Whether the end of the run has been read.
    """

    def __init__(self, path: Path) -> None:
        """Prepares to read; nothing is read yet.

        Args:
            path: The file; it need not exist yet.
        """
        self.has_ended = False
        self._path = path
        self._position = _FILE_HEADER_SIZE
        self._record = load("wandb", "wandb.proto.wandb_internal_pb2").Record

    def new_rows(self) -> Iterator[Row]:
        """Reads the rows since the last call.

        Yields:
            The values of a row by key: what was logged (an image is a dictionary), ``_step``, and more keys of W&B.
        """
        for content in self._new_records():
            record = self._record.FromString(content)
            kind = record.WhichOneof("record_type")
            self.has_ended = self.has_ended or kind == "exit"
            if kind == "history":
                row: Row = {}
                for item in record.history.item:
                    _set_nested(row, list(item.nested_key) or [item.key], json.loads(item.value_json))
                yield row

    def _new_records(self) -> Iterator[bytes]:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._position)
            content_so_far = b""
            while (chunk := self._next_chunk(file.tell(), file)) is not None:
                kind, content = chunk
                content_so_far = content if kind in (_WHOLE, _FIRST) else content_so_far + content
                if kind in (_WHOLE, _LAST):
                    self._position = file.tell()
                    yield content_so_far

    def _next_chunk(self, position: int, file: Any) -> tuple[int, bytes] | None:
        left_in_block = _BLOCK_SIZE - position % _BLOCK_SIZE
        if left_in_block < _CHUNK_HEADER.size:  # the rest of the block is empty
            file.seek(left_in_block, 1)
        header = file.read(_CHUNK_HEADER.size)
        if len(header) < _CHUNK_HEADER.size:
            return None
        _, length, kind = _CHUNK_HEADER.unpack(header)
        content = file.read(length)
        return (kind, content) if len(content) == length and kind else None


def _set_nested(row: Row, path: list[str], value: Any) -> None:
    for key in path[:-1]:
        row = row.setdefault(key, {})
    row[path[-1]] = value
