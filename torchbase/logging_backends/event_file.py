"""An event file of TensorBoard: scalars at little cost, and whatever else makes a summary.

TensorBoard's own messages, without the thread of its ``EventFileWriter`` and with a checksum that isn't computed in
Python: both compete with the training for the interpreter.
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
SUFFIX = ".torchbase"  # tells these files from those that a user's own writer puts beside them
PATTERN = f"{PREFIX}*{SUFFIX}"


class EventFile(AppendOnlyFile):
    """Appends events to a new ``events.out.tfevents.*`` file."""

    def __init__(self, folder: Path) -> None:
        """Makes the file.

        Args:
            folder: Where TensorBoard looks for it.

        Raises:
            OSError: If it can't be made.
        """
        from tensorboard.compat.proto.event_pb2 import Event

        self._event = Event
        now = time.time()
        origin = f"{socket.gethostname()}.{os.getpid()}.{time.monotonic_ns()}"
        super().__init__(folder / f"{PREFIX}{_seconds_for_the_name(folder, now):010d}.{origin}{SUFFIX}")
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
            wall_time: When they were measured, in seconds since 1970; now without one.

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
            **fields: The fields of the event's protocol buffer: ``wall_time``, ``step``, ``summary`` (as the functions
                of ``torch.utils.tensorboard.summary`` make them), ``graph_def`` and so on.

        Raises:
            OSError: If the disk is full or gone; see `abandon`.
        """
        self._append_event(self._event(**fields))

    def _append_event(self, event: Any) -> None:
        # A record as TensorFlow's files have them, https://www.tensorflow.org/tutorials/load_data/tfrecord
        content: bytes = event.SerializeToString()
        length = struct.pack("<Q", len(content))
        self.append(length + _masked_checksum(length) + content + _masked_checksum(content))


def _masked_checksum(content: bytes) -> bytes:
    checksum = google_crc32c.value(content)
    return struct.pack("<I", ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _seconds_for_the_name(folder: Path, now: float) -> int:
    # TensorBoard reads a folder's files in the order of their names, and a run may go on within the same second.
    others = [path.name.removeprefix(PREFIX).partition(".")[0] for path in folder.glob(f"{PREFIX}*")]
    return max([int(now), *(int(seconds) + 1 for seconds in others if seconds.isdecimal())])
