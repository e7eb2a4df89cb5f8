"""What is written to the terminal or into a pipe: its width, its colours, and how values look there."""

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

WIDTH_OF_A_PIPE = 10_000  # a program that reads it wants each line whole
WIDTH_OF_A_PAGE = 80
LONGEST_NUMBER = 10
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
HEAD, FAINT, BEST = "bold", "dim", "bold green"


def make_console() -> Console:
    """Makes what the commands write with.

    Returns:
        A console for standard output. Into a pipe or a file it writes no colours, and doesn't break lines unless the
        variable COLUMNS gives a width.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # rather a question mark than no answer
    is_wide = not sys.stdout.isatty() and not os.environ.get("COLUMNS", "").isdecimal()
    return Console(highlight=False, markup=False, emoji=False, width=WIDTH_OF_A_PIPE if is_wide else None)


def make_table(*heads: str, right: Iterable[str] = ()) -> Table:
    """Makes an empty table without lines around it.

    Args:
        *heads: The heads of its columns.
        right: Those whose cells stand at the right.

    Returns:
        The table.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=HEAD, show_header=any(heads))
    for head in heads:
        table.add_column(head, justify="right" if head in right else "left", overflow="fold")
    return table


class Trimmed:
    """Something rich can show, without spaces at the ends of its lines."""

    def __init__(self, shown: RenderableType) -> None:
        """Wraps it.

        Args:
            shown: What is shown.
        """
        self._shown = shown

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Gives the lines, as rich asks for them."""
        for line in console.render_lines(self._shown, options, pad=False):
            while line and not line[-1].text.strip(" "):
                line.pop()
            yield from line[:-1]
            if line:
                yield Segment(line[-1].text.rstrip(" "), line[-1].style)
            yield Segment.line()


def plain(text: object) -> str:
    """Gives a text as one line that does nothing to a terminal.

    Args:
        text: Any text.

    Returns:
        The text, with escapes in place of line ends and control characters.
    """
    line = str(text)
    return line if line.isprintable() else "".join(one if one.isprintable() else repr(one)[1:-1] for one in line)


def short_names(phases: Iterable[str]) -> dict[str, str]:
    """Gives phases the names of their sets.

    Args:
        phases: The names of phases, such as ``validation-valid``.

    Returns:
        By phase a short name, such as ``valid``, where no other phase has it, in one line.
    """
    short = {phase: phase.removeprefix("validation-") for phase in phases}
    return {phase: plain(name if list(short.values()).count(name) == 1 else phase) for phase, name in short.items()}


def number(value: float | None) -> str:
    """Gives four significant digits of a number.

    Args:
        value: The number, if there is one.

    Returns:
        The text.
    """
    if value is None:
        return NOTHING
    return f"{value:#.4g}".removesuffix(".") if math.isfinite(value) else str(value)


def config_value(value: Any) -> str:
    """Gives a value of a config as one writes it, a text without quotes.

    Args:
        value: The value, or ``NOT_GIVEN``.

    Returns:
        The text.
    """
    if value is NOT_GIVEN:
        return NOTHING
    if isinstance(value, str):
        return plain(value) or "''"
    if isinstance(value, float) and len(repr(value)) > LONGEST_NUMBER:  # as 0.1 + 0.2
        return f"{value:.6g}"
    return plain(json.dumps(value, ensure_ascii=False)) if isinstance(value, list) else plain(repr(value))


def cropped(text: str, width: int) -> str:
    """Shortens a text that is too wide.

    Args:
        text: The text.
        width: How many columns it may take.

    Returns:
        The text, with an ellipsis at its end if it was shortened.
    """
    if width_of(text) <= width:
        return text
    while text and width_of(text) >= width:
        text = text[:-1]
    return f"{text}…"


def width_of(text: str) -> int:
    """Tells how many columns of a terminal a text takes.

    Args:
        text: A text in one line.
    """
    return len(text) if text.isascii() else cell_len(text)


def write_notes(console: Console, notes: Sequence[str]) -> None:
    """Writes notes below what they belong to.

    Args:
        console: The console.
        notes: The notes, each a line.
    """
    if notes:
        console.print()
    for note in notes:
        console.print(Text(plain(note), style=FAINT), soft_wrap=console.width >= WIDTH_OF_A_PIPE)
