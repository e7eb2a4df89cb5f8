"""Values that are given on the command line: numbers, times, texts, and what else a config can hold."""

import json
from contextlib import suppress
from typing import Any

from torchbase.command_line.terminal import STYLES
from torchbase.command_line.times import parse_time
from torchbase.errors import RunDirectoryError, nearest_or_all

_WORDS = {"True": True, "False": False, "None": None}


def parse_literal(text: str) -> Any:
    """Reads a value of a config or an epoch.

    Args:
        text: A number, also ``nan`` or ``inf``; ``true``, ``false`` or ``null``, also as Python writes them; a list
            in JSON; or a text, also in quotes.

    Returns:
        The value.
    """
    if _is_quoted(text):
        return text[1:-1]
    # JSON first, since it reads long whole numbers exactly.
    for read in (_WORDS.__getitem__, json.loads, float):
        with suppress(KeyError, ValueError, RecursionError):
            return read(text)
    return text


def parse_text(text: str) -> str | None:
    """Reads a text, which may look like a number.

    Args:
        text: The text, also in quotes; ``null`` or ``None`` for no text.
    """
    if text in ("null", "None"):
        return None
    return text[1:-1] if _is_quoted(text) else text


def parse_state(text: str) -> str:
    """Reads the state of a run.

    Args:
        text: The state.

    Raises:
        RunDirectoryError: If there is no such state. The message suggests one.
    """
    if text not in STYLES:
        raise RunDirectoryError(f"There is no state {text!r}.{nearest_or_all(text, STYLES)}")
    return text


def parse_timestamp(text: str) -> float | None:
    """Reads a time.

    Args:
        text: The time in ISO 8601, such as ``2026-11-25`` or ``2026-11-25 15:12``, by default in the time zone of this
            machine; ``null`` or ``None`` for no time.

    Returns:
        The seconds since 1970.

    Raises:
        RunDirectoryError: If it isn't a time.
    """
    if text in ("null", "None"):
        return None
    time = parse_time(text)
    if time is None:
        raise RunDirectoryError(f"{text!r} isn't a time. To fix, write it as 2026-11-25 or as 2026-11-25T15:12:04.")
    return time.timestamp()


def _is_quoted(text: str) -> bool:
    return len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
