"""Output to a terminal or a pipe: its width, its colours, and the format of values."""

import io
import json
import math
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from torchbase.files.json_values import NOT_GIVEN
from torchbase.run_directory.names import VALIDATION_PREFIX

PIPE_WIDTH = 10_000  # programs need unbroken lines
PAGE_WIDTH = 80
MAX_NUMBER_WIDTH = 10
NOTHING = "-"
STYLES = {
    "finished": "green",
    "running": "cyan",
    "running?": "cyan",
    "stopped": "yellow",
    "failed": "red",
    "killed": "red",
    "not begun": "dim",
    "unknown": "dim",
}
HEADER, FAINT, BEST = "bold", "dim", "bold green"


def make_console() -> Console:
    """Creates the console to which the commands write.

    Returns:
        A console for the standard output. In a pipe or a file it writes no colours, and doesn't break lines unless the
        variable COLUMNS sets a width.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a question mark rather than an encoding error
    is_wide = not sys.stdout.isatty() and not os.environ.get("COLUMNS", "").isdecimal()
    return Console(highlight=False, markup=False, emoji=False, width=PIPE_WIDTH if is_wide else None)


def make_table(*headers: str, right: Iterable[str] = ()) -> Table:
    """Creates an empty table without borders.

    Args:
        *headers: The headers of its columns.
        right: The headers of the columns that are aligned right.

    Returns:
        The table.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=HEADER, show_header=any(headers))
    for header in headers:
        table.add_column(header, justify="right" if header in right else "left", overflow="fold")
    return table


class Trimmed:
    """A rich renderable without spaces at the ends of its lines."""

    def __init__(self, content: RenderableType) -> None:
        """Wraps a renderable.

        Args:
            content: The renderable.
        """
        self._content = content

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yields the lines, as rich expects."""
        for line in console.render_lines(self._content, options, pad=False):
            while line and not line[-1].text.strip(" "):
                line.pop()
            yield from line[:-1]
            if line:
                yield Segment(line[-1].text.rstrip(" "), line[-1].style)
            yield Segment.line()


def plain(text: object) -> str:
    """Returns a text as one line without control characters.

    Args:
        text: Any text.

    Returns:
        The text, with line ends and control characters replaced by escape sequences.
    """
    line = str(text)
    if line.isprintable():
        return line
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in line)


def short_names(phases: Iterable[str]) -> dict[str, str]:
    """Returns short names of phases.

    Args:
        phases: The names of phases, such as ``validation-valid``.

    Returns:
        A name by phase, in one line: the name of the set, such as ``valid``, unless two phases share it.
    """
    short = {phase: phase.removeprefix(VALIDATION_PREFIX) for phase in phases}
    return {phase: plain(name if list(short.values()).count(name) == 1 else phase) for phase, name in short.items()}


def format_number(value: float | None) -> str:
    """Formats a number with four significant digits.

    Args:
        value: The number, or None.

    Returns:
        The text.
    """
    if value is None:
        return NOTHING
    return f"{value:#.4g}".removesuffix(".") if math.isfinite(value) else str(value)


def format_value(value: Any) -> str:
    """Formats a value of a config; a string has no quotes.

    Args:
        value: The value, or ``NOT_GIVEN``.

    Returns:
        The text.
    """
    if value is NOT_GIVEN:
        return NOTHING
    if isinstance(value, str):
        return plain(value) or "''"
    if isinstance(value, float) and len(repr(value)) > MAX_NUMBER_WIDTH:  # such as 0.1 + 0.2
        return f"{value:.6g}"
    return plain(json.dumps(value, ensure_ascii=False)) if isinstance(value, list) else plain(repr(value))


def crop(text: str, width: int) -> str:
    """Shortens a text that is too wide.

    Args:
        text: The text.
        width: The maximum width, in columns of the terminal.

    Returns:
        The text, which ends with an ellipsis if it was shortened.
    """
    if text_width(text) <= width:
        return text
    while text and text_width(text) >= width:
        text = text[:-1]
    return f"{text}…"


def crop_value(value: Any, width: int) -> str:
    """Formats a value of a config, and shortens it if it is too wide. No number is cut: a list ends after an item.

    Args:
        value: The value, or ``NOT_GIVEN``.
        width: The maximum width, in columns of the terminal. A single number may be wider.

    Returns:
        The text, which ends with an ellipsis if it was shortened.
    """
    text = format_value(value)
    if text_width(text) <= width or isinstance(value, int | float):
        return text
    if not isinstance(value, list):
        return crop(text, width)
    items = [plain(json.dumps(item, ensure_ascii=False)) for item in value]
    while items and text_width(f"[{', '.join(items)}, …") > width:
        items.pop()
    return f"[{', '.join([*items, '…'])}"


def pack(items: Iterable[str], width: int) -> str:
    """Writes items with commas between them into lines, and breaks no item.

    Args:
        items: The items.
        width: The width of a line, in columns of the terminal.

    Returns:
        The lines.
    """
    lines: list[str] = []
    for item in items:
        if lines and text_width(f"{lines[-1]}, {item},") <= width:
            lines[-1] += f", {item}"
        else:
            lines.append(item)
    return ",\n".join(lines)


def text_width(text: str) -> int:
    """Returns the width of a text, in columns of the terminal.

    Args:
        text: A text in one line.
    """
    return len(text) if text.isascii() else cell_len(text)


def write_notes(console: Console, notes: Sequence[str]) -> None:
    """Writes notes below the output.

    Args:
        console: The console.
        notes: The notes, one per line.
    """
    if notes:
        console.print()
    for note in notes:
        text = Text(plain(note), style=FAINT)
        if console.width >= PIPE_WIDTH:
            console.print(text, soft_wrap=True)  # it may be longer than the width of a pipe
        else:
            console.print(Trimmed(text))
