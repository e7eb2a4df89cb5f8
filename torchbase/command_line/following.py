"""What has come into the files of a run since the last look."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from torchbase.command_line.run_records import attempt, intact_lines
from torchbase.run_directory.names import TRAINING
from torchbase.run_directory.record import EPOCHS_FILE, Epoch, read_epochs

LOG_FILE = "log.jsonl"  # of the logging backend JsonLines
BYTES_AT_FIRST = 2**16
_PREFIX, _SUFFIX = f"{TRAINING}/", "/iterations"


@dataclass
class NewEpochs:
    """The averages of a run that have come.

    Attributes:
        seen: All averages so far.
        damages: What can't be read, and why.
    """

    seen: list[Epoch] = field(default_factory=list)
    damages: list[str] = field(default_factory=list)

    def look(self, run_dir: Path) -> tuple[list[Epoch], int]:
        """Reads the averages.

        Args:
            run_dir: The run directory.

        Returns:
            Those that have come, and how many are gone, since the run was resumed from a checkpoint before them.
        """
        self.damages = []
        file = run_dir / EPOCHS_FILE
        epochs = intact_lines(attempt(lambda: read_epochs(run_dir), self.damages), file, self.damages)
        same = 0
        # As text: NaN isn't equal to itself.
        while same < min(len(epochs), len(self.seen)) and repr(epochs[same]) == repr(self.seen[same]):
            same += 1
        gone, self.seen = len(self.seen) - same, epochs
        return epochs[same:], gone


@dataclass
class NewIterations:
    """The values of training iterations that have come, from the file of the logging backend ``JsonLines``.

    Attributes:
        damages: What can't be read, and why.
    """

    damages: list[str] = field(default_factory=list)
    _offset: int | None = None
    _step: int = 0

    def look(self, run_dir: Path) -> tuple[int, dict[str, float]] | None:
        """Reads the end of the file.

        Args:
            run_dir: The run directory.

        Returns:
            The last iteration that has come, and its values by name; None if none has come.
        """
        self.damages = []
        lines = attempt(lambda: self._read_new_lines(run_dir / LOG_FILE), self.damages) or []
        values: dict[int, dict[str, float]] = {}
        for step, name, value in filter(None, map(_parse, lines)):
            values.setdefault(step, {})[name] = value
        last = max(values, default=0)
        if last <= self._step:
            return None
        self._step = last
        return last, values[last]

    def _read_new_lines(self, file: Path) -> list[bytes]:
        if not file.exists():
            return []
        with file.open("rb") as opened:
            size = opened.seek(0, os.SEEK_END)
            if self._offset is None or size < self._offset:  # a resumed run cuts the file to its checkpoint
                self._offset, self._step = max(0, size - BYTES_AT_FIRST), 0
            opened.seek(self._offset)
            content = opened.read()
        complete = content[: content.rfind(b"\n") + 1]
        self._offset += len(complete)
        return complete.splitlines()


def _parse(line: bytes) -> tuple[int, str, float] | None:
    try:
        record = json.loads(line)
        tag, step = record["tag"], record["step"]
        if record["kind"] != "scalar" or not (tag.startswith(_PREFIX) and tag.endswith(_SUFFIX)):
            return None
        return int(step), tag.removeprefix(_PREFIX).removesuffix(_SUFFIX), float(record["value"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None  # the first line can be cut, and there are other kinds of records
