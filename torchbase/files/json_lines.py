"""JSON lines: files with one JSON object per line, appended during a run and truncated when the run is resumed."""

import errno
import json
import os
from pathlib import Path
from typing import Any

from torchbase.files.durable import os_errors_explained, write_durably


def append_line(file: Path, value: dict[str, Any]) -> None:
    """Appends a line. It is passed to the operating system at once, so it stays whole if the process is killed.

    Args:
        file: The file. It is created if it is missing.
        value: A value that JSON can hold, with finite numbers only.

    Raises:
        RunDirectoryError: If the operating system reports an error. The file then ends as before.
    """
    line = json.dumps(value, allow_nan=False).encode() + b"\n"
    with os_errors_explained("write", file), file.open("ab", buffering=0) as opened:
        size = opened.seek(0, os.SEEK_END)
        if opened.write(line) != len(line):  # the next line would continue this incomplete one
            os.truncate(file, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def truncate_lines(file: Path, count: int) -> None:
    """Removes the lines after a number of lines, and an incomplete line of a killed process.

    Args:
        file: The file. It may be missing.
        count: The number of lines to keep, counted from the first.

    Raises:
        RunDirectoryError: If the operating system reports an error.
    """
    with os_errors_explained("read", file):
        if not file.exists():
            return
        lines = file.read_bytes().splitlines(keepends=True)
    remaining = [line for line in lines[:count] if line.endswith(b"\n")]
    if remaining != lines:
        write_durably(file, lambda opened: opened.write(b"".join(remaining)))


def read_lines(file: Path) -> tuple[list[dict[str, Any]], int]:
    """Reads the lines of a file, which another process may be writing or a killed process may have left.

    Args:
        file: The file. It may be missing.

    Returns:
        The valid lines, and the number of invalid ones. A last line without an end is neither returned nor counted.

    Raises:
        RunDirectoryError: If the operating system reports an error.
    """
    with os_errors_explained("read", file):
        if not file.exists():
            return [], 0
        lines = file.read_bytes().splitlines(keepends=True)
    complete = [line for line in lines if line.endswith(b"\n")]
    values = [value for line in complete if (value := _parse(line)) is not None]
    return values, len(complete) - len(values)


def _parse(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
