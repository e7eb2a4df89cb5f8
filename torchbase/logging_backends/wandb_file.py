"""Reads the file in which Weights & Biases keeps a run, to know what it has already.

A log as LevelDB's are, https://github.com/google/leveldb/blob/main/doc/log_format.md, after seven bytes of its own, of
W&B's protocol buffers.
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
    """Reads rows of a ``run-ID.wandb`` file, each once, while it grows.

    Attributes:
        has_ended: Whether the end of the run was met.
    """

    def __init__(self, path: Path) -> None:
        """Reads nothing yet.

        Args:
            path: The file; it need not be there yet.
        """
        self.has_ended = False
        self._path = path
        self._position = _FILE_HEADER_SIZE
        self._record = load("wandb", "wandb.proto.wandb_internal_pb2").Record

    def new_rows(self) -> Iterator[Row]:
        """Gives the rows that came since the last time.

        Returns:
            Of each row its values by key: what was logged in it (a picture is a dictionary), and ``_step`` among others
            of W&B's own.
        """
        for content in self._new_records():
            record = self._record.FromString(content)
            kind = record.WhichOneof("record_type")
            self.has_ended = self.has_ended or kind == "exit"
            if kind == "history":
                row: Row = {}
                for one in record.history.item:
                    _put(row, list(one.nested_key) or [one.key], json.loads(one.value_json))
                yield row

    def _new_records(self) -> Iterator[bytes]:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._position)
            gathered = b""
            while (chunk := self._next_chunk(file.tell(), file)) is not None:
                kind, content = chunk
                gathered = content if kind in (_WHOLE, _FIRST) else gathered + content
                if kind in (_WHOLE, _LAST):
                    self._position = file.tell()
                    yield gathered

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


def _put(row: Row, path: list[str], value: Any) -> None:
    for key in path[:-1]:
        row = row.setdefault(key, {})
    row[path[-1]] = value
