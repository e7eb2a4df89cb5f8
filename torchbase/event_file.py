"""An event file of TensorBoard: scalars at little cost, and whatever else makes a summary.

TensorBoard's own messages, without the thread of its ``EventFileWriter`` and with a checksum that isn't computed in
Python: both compete with the training for the interpreter.
"""

import logging
import os
import socket
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import google_crc32c

MAXIMUM_SECONDS_UNTIL_ON_DISK = 5.0
PREFIX = "events.out.tfevents."
SUFFIX = ".torchbase"  # tells these files from those that a user's own writer puts beside them

logger = logging.getLogger("torchbase")


def file_sizes(folder: Path) -> dict[str, int]:
    """Tells how long the event files of a run are.

    Args:
        folder: The run directory.

    Returns:
        Their sizes in bytes by their names, as far as they were flushed.
    """
    return {path.name: path.stat().st_size for path in sorted(folder.glob(f"{PREFIX}*{SUFFIX}"))}


def cut_back(folder: Path, sizes: Mapping[str, int]) -> None:
    """Takes away what was recorded after a point to which the run goes back, so that no step is there twice.

    Args:
        folder: The run directory.
        sizes: What `file_sizes` gave at that point.
    """
    for name, size in file_sizes(folder).items():
        if name not in sizes:
            (folder / name).unlink()
        elif size > sizes[name]:
            os.truncate(folder / name, sizes[name])
        elif size < sizes[name]:
            logger.warning("%s lost its last %d bytes, and with them some values.", folder / name, sizes[name] - size)


class EventFile:
    """Appends events to a new ``events.out.tfevents.*`` file."""

    def __init__(self, folder: Path) -> None:
        """Makes the file.

        Args:
            folder: Where TensorBoard looks for it.

        Raises:
            OSError: If it can't be made.
        """
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._event, self._summary = Event, Summary
        now = time.time()
        origin = f"{socket.gethostname()}.{os.getpid()}.{time.monotonic_ns()}"
        self._path = folder / f"{PREFIX}{_seconds_for_the_name(folder, now):010d}.{origin}{SUFFIX}"
        self._file = open(self._path, "xb")  # noqa: SIM115 - closed by close()
        self._flushed_at, self._flushed_size = time.monotonic(), 0
        try:
            self._write(Event(wall_time=now, file_version="brain.Event:2"))
            self.flush()
        except OSError:
            self.abandon()
            self._path.unlink()
            raise

    def add_scalars(self, scalars: Mapping[str, float], step: int) -> None:
        """Appends numbers.

        Args:
            scalars: Numbers by tag.
            step: The step of their curves.

        Raises:
            OSError: If the disk is full or gone; see `abandon`.
        """
        value = self._summary.Value
        self.add_summary(
            self._summary(value=[value(tag=tag, simple_value=number) for tag, number in scalars.items()]), step
        )

    def add_summary(self, summary: Any, step: int = 0) -> None:
        """Appends a summary, as the functions of ``torch.utils.tensorboard.summary`` make them.

        Args:
            summary: The summary's protocol buffer.
            step: The step it belongs to.

        Raises:
            OSError: If the disk is full or gone; see `abandon`.
        """
        self._write(self._event(wall_time=time.time(), step=step, summary=summary))
        if time.monotonic() - self._flushed_at >= MAXIMUM_SECONDS_UNTIL_ON_DISK:
            self.flush()

    def flush(self) -> None:
        """Hands everything to the operating system, for a reader to see.

        Raises:
            OSError: If the disk is full or gone; see `abandon`.
        """
        self._file.flush()
        self._flushed_at, self._flushed_size = time.monotonic(), self._file.tell()

    def close(self) -> None:
        """Closes the file.

        Raises:
            OSError: If the disk is full or gone; see `abandon`.
        """
        self._file.close()

    def abandon(self) -> None:
        """Closes the file after an error, without the half of an event that may stand at its end.

        A reader takes nothing of what comes behind half an event.
        """
        with suppress(OSError):  # what could not be written still can't
            self._file.close()
        with suppress(OSError):
            os.truncate(self._path, self._flushed_size)

    def _write(self, event: Any) -> None:
        # A record as TensorFlow's files have them, https://www.tensorflow.org/tutorials/load_data/tfrecord
        content: bytes = event.SerializeToString()
        length = struct.pack("<Q", len(content))
        self._file.write(length + _masked_checksum(length) + content + _masked_checksum(content))


def _masked_checksum(content: bytes) -> bytes:
    checksum = google_crc32c.value(content)
    return struct.pack("<I", ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _seconds_for_the_name(folder: Path, now: float) -> int:
    # TensorBoard reads a folder's files in the order of their names, and a run may go on within the same second.
    others = [path.name.removeprefix(PREFIX).partition(".")[0] for path in folder.glob(f"{PREFIX}*")]
    return max([int(now), *(int(seconds) + 1 for seconds in others if seconds.isdecimal())])
