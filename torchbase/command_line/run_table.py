"""A table with very many rows of one line each.

rich takes 50 µs to lay out a cell, a third of a second for a thousand runs. This module lays out the cells itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment

from torchbase.command_line.terminal import HEADER, text_width

GAP = 2


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        header: The header.
        cells: The cells, from the top.
        is_right: Whether the cells are aligned right.
        rank: If not all columns fit, those of a lower rank are shown.
        styles: The styles of the cells, if they have any.
    """

    header: str
    cells: Sequence[str]
    is_right: bool = False
    rank: int = 0
    styles: Sequence[str] = ()

    @property
    def width(self) -> int:
        """The width of the column, in columns of the terminal."""
        return max(map(text_width, (self.header, *self.cells)))


class RunTable:
    """Columns side by side, as many as fit.

    Attributes:
        hidden: The headers of the columns that don't fit.
    """

    def __init__(self, columns: Sequence[Column], width: int) -> None:
        """Chooses the columns that fit.

        Args:
            columns: The columns from the left. A column of the lowest rank is always shown.
            width: The width of the terminal, in columns.
        """
        widths = [column.width for column in columns]
        left = width + GAP
        chosen: list[int] = []
        for position in sorted(range(len(columns)), key=lambda position: columns[position].rank):
            if widths[position] + GAP <= left or not chosen:
                chosen.append(position)
                left -= widths[position] + GAP
        self._shown = [(columns[position], widths[position]) for position in sorted(chosen)]
        self.hidden = [column.header for position, column in enumerate(columns) if position not in chosen]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yields the lines, as rich expects."""
        yield from self._line([column.header for column, _ in self._shown], [HEADER] * len(self._shown), console)
        for row in range(len(self._shown[0][0].cells)):
            cells = [column.cells[row] for column, _ in self._shown]
            styles = [column.styles[row] if column.styles else "" for column, _ in self._shown]
            yield from self._line(cells, styles, console)

    def _line(self, cells: Sequence[str], styles: Sequence[str], console: Console) -> RenderResult:
        before = ""  # spaces come before the next cell, so no line ends with spaces
        for (column, width), cell, style in zip(self._shown, cells, styles, strict=True):
            space = " " * (width - text_width(cell))
            yield Segment(before + space if column.is_right else before)
            yield Segment(cell, console.get_style(style) if style else None)
            before = " " * GAP if column.is_right else space + " " * GAP
        yield Segment.line()
