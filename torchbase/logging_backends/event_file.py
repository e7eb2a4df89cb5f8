"""An event file of TensorBoard: scalars at little cost, and any other summary.

It writes TensorBoard's own messages. It does without the thread of ``EventFileWriter`` and without a checksum computed
in Python, since both compete with the training for the interpreter.
"""

import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import google_crc32c

from torchbase.files.append_only import AppendOnlyFile

PREFIX = "events.out.tfevents."
SUFFIX = ".torchbase"  # distinguishes these files from those of a user's own writer
PATTERN = f"{PREFIX}*{SUFFIX}"


class EventFile(AppendOnlyFile):
    """Appends events to a new ``events.out.tfevents.*`` file."""

    def __init__(self, folder: Path) -> None:
        """Creates the file.

        Args:
            folder: The folder that TensorBoard reads.

        Raises:
            OSError: If the file can't be created.
        """
        from tensorboard.compat.proto.event_pb2 import Event

        self._event = Event
        now = time.time()
        origin = f"{socket.gethostname()}.{os.getpid()}.{time.monotonic_ns()}"
        super().__init__(folder / f"{PREFIX}{_seconds_in_name(folder, now):010d}.{origin}{SUFFIX}")
        try:
            self.add_event(wall_time=now, file_version="brain.Event:2")
            self.flush()
        except OSError:
            self.abandon()
            self.path.unlink()
            raise

    def add_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float | None = None) -> None:
        """Appends numbers.

        Args:
            scalars: Numbers by tag.
            step: The step of their curves.
            wall_time: When they were measured, in seconds since 1970; the present time by default.

        Raises:
            OSError: If the disk is full or gone; see `abandon`.
        """
        event = self._event(wall_time=time.time() if wall_time is None else wall_time, step=step)
        add = event.summary.value.add
        for tag, number in scalars.items():
            add(tag=tag, simple_value=number)
        self._append_event(event)

    def add_event(self, **fields: Any) -> None:
        """Appends an event of any kind.

        Args:
            **fields: The fields of the event's protocol buffer: ``wall_time``, ``step``, ``summary`` (as returned by
                the functions of ``torch.utils.tensorboard.summary``), ``graph_def`` and so on.

        Raises:
            OSError: If the disk is full or gone; see `abandon`.
        """
        self._append_event(self._event(**fields))

    def _append_event(self, event: Any) -> None:
        # The record format of TensorFlow, https://www.tensorflow.org/tutorials/load_data/tfrecord
        content: bytes = event.SerializeToString()
        length = struct.pack("<Q", len(content))
        self.append(length + _masked_checksum(length) + content + _masked_checksum(content))


def _masked_checksum(content: bytes) -> bytes:
    checksum = google_crc32c.value(content)
    return struct.pack("<I", ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _seconds_in_name(folder: Path, now: float) -> int:
    # TensorBoard reads the files of a folder in the order of their names, and a run may resume within the same second.
    others = [path.name.removeprefix(PREFIX).partition(".")[0] for path in folder.glob(f"{PREFIX}*")]
    return max([int(now), *(int(seconds) + 1 for seconds in others if seconds.isdecimal())])
