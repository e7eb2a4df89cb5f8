"""Files of lines, each of them a JSON object: appended to while a run goes on, and cut back when it goes back."""

import errno
import json
import os
from pathlib import Path
from typing import Any

from torchbase.files.durable import os_errors_explained, write_durably


def append_line(file: Path, value: dict[str, Any]) -> None:
    """Appends a line, which a killed process leaves whole: it is handed to the operating system at once.

    Args:
        file: The file, made where it is missing.
        value: What JSON can hold, with finite numbers only.

    Raises:
        RunDirectoryError: The operating system refused; then the file ends as before.
    """
    line = json.dumps(value, allow_nan=False).encode() + b"\n"
    with os_errors_explained("write", file), file.open("ab", buffering=0) as opened:
        size = opened.seek(0, os.SEEK_END)
        if opened.write(line) != len(line):  # else the next line would be glued to this half
            os.truncate(file, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def truncate_lines(file: Path, count: int) -> None:
    """Takes away lines that are to come again, and half a line that a killed process left.

    Args:
        file: The file, which may be missing.
        count: How many lines stay, from the first.

    Raises:
        RunDirectoryError: The operating system refused.
    """
    with os_errors_explained("read", file):
        if not file.exists():
            return
        lines = file.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines[:count] if line.endswith(b"\n")]
    if kept != lines:
        write_durably(file, lambda opened: opened.write(b"".join(kept)))


def read_lines(file: Path) -> tuple[list[dict[str, Any]], int]:
    """Reads a file that a process may be writing, or that a killed one left.

    Args:
        file: The file, which may be missing.

    Returns:
        The lines that are whole, and how many aren't; the last one, if it has no end yet, is left out and not counted.

    Raises:
        RunDirectoryError: The operating system refused.
    """
    with os_errors_explained("read", file):
        if not file.exists():
            return [], 0
        lines = file.read_bytes().splitlines(keepends=True)
    ended = [line for line in lines if line.endswith(b"\n")]
    values = [value for line in ended if (value := _value_of(line)) is not None]
    return values, len(ended) - len(values)


def _value_of(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
