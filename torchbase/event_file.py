"""An event file of TensorBoard: scalars at little cost, and whatever else makes a summary.

Over TensorBoard's own record writer, without the thread of its ``EventFileWriter``: that competes with the training for
the interpreter, and so takes three times as long for each event.
"""

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MAXIMUM_SECONDS_UNTIL_ON_DISK = 5.0


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
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary = Event, Summary
        now = time.time()
        # The time comes first in the name: TensorBoard reads a folder's files in the order of their names.
        name = f"events.out.tfevents.{int(now):010d}.{socket.gethostname()}.{os.getpid()}.{time.monotonic_ns()}"
        self._file = open(folder / name, "xb")  # noqa: SIM115 - closed by close()
        self._records = RecordWriter(self._file)
        self._flushed_at = time.monotonic()
        self._write(Event(wall_time=now, file_version="brain.Event:2"))
        self.flush()

    def add_scalars(self, scalars: Mapping[str, float], step: int) -> None:
        """Appends numbers.

        Args:
            scalars: Numbers by tag.
            step: The step of their curves.
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
        """
        self._write(self._event(wall_time=time.time(), step=step, summary=summary))
        if time.monotonic() - self._flushed_at >= MAXIMUM_SECONDS_UNTIL_ON_DISK:
            self.flush()

    def flush(self) -> None:
        """Hands everything to the operating system, for a reader to see."""
        self._file.flush()
        self._flushed_at = time.monotonic()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _write(self, event: Any) -> None:
        self._records.write(event.SerializeToString())
