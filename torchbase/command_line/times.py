"""The one format of times and durations in the output of the commands."""

from datetime import datetime

from torchbase.command_line.terminal import NOTHING, plain

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def parse_time(text: str) -> datetime | None:
    """Reads a time of a record.

    Args:
        text: The time in ISO 8601. Without a time zone, it is that of this machine.

    Returns:
        The time in the time zone of this machine; None if the text isn't a time.
    """
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        return None


def format_time(text: str) -> str:
    """Formats a time of a record, in the time zone of this machine.

    Args:
        text: The time in ISO 8601.

    Returns:
        The time with the offset of its time zone, such as ``2026-11-25 15:12:04 +0100``; a text that isn't a time is
        returned unchanged, in one line.
    """
    time = parse_time(text)
    return plain(text) if time is None else f"{time:%Y-%m-%d %H:%M:%S %z}"


def format_duration(seconds: float | None) -> str:
    """Formats a duration with about three digits.

    Args:
        seconds: The duration; None if it isn't known.

    Returns:
        A text without spaces, such as ``0.25s``, ``12.3s``, ``3m04s``, ``2h05m`` or ``3d04h``.
    """
    if seconds is None:
        return NOTHING
    for digits, bound in ((2, 9.995), (1, 59.95)):
        if seconds < bound:
            return f"{seconds:.{digits}f}s"
    whole = round(seconds)
    if whole < _HOUR:
        return f"{whole // _MINUTE}m{whole % _MINUTE:02d}s"
    minutes = round(seconds / _MINUTE)
    if minutes < _DAY // _MINUTE:
        return f"{minutes // 60}h{minutes % 60:02d}m"
    hours = round(seconds / _HOUR)
    return f"{hours // 24}d{hours % 24:02d}h"
