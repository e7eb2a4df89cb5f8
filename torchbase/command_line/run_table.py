"""A table with very many rows of one line each.

rich takes 50 µs to lay out a cell, a third of a second for a thousand runs. This module lays out the cells itself.
"""

from collections.abc import Mapping, Sequence
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
        return max(_widths([self.header, *self.cells]))


class RunTable:
    """Columns side by side, as many as fit.

    Attributes:
        hidden: The headers of the columns that don't fit.
    """

    def __init__(self, columns: Sequence[Column], width: int, headings: Mapping[int, str] | None = None) -> None:
        """Chooses the columns that fit.

        Args:
            columns: The columns from the left. A column of the lowest rank is always shown.
            width: The width of the terminal, in columns.
            headings: Lines above some rows, by the position of the row.
        """
        widths = [column.width for column in columns]
        left = width + GAP
        chosen: list[int] = []
        for position in sorted(range(len(columns)), key=lambda position: columns[position].rank):
            if widths[position] + GAP <= left or not chosen:
                chosen.append(position)
                left -= widths[position] + GAP
        self._shown = [(columns[position], widths[position]) for position in sorted(chosen)]
        self._headings = headings or {}
        self.hidden = [column.header for position, column in enumerate(columns) if position not in chosen]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yields the lines, as rich expects."""
        rows = list(zip(*(_padded(column, width) for column, width in self._shown), strict=True))
        yield Segment(f"{_joined(rows[0])}\n", console.get_style(HEADER))
        for position, row in enumerate(rows[1:]):
            if position in self._headings:
                yield Segment(f"{self._headings[position]}\n", console.get_style(HEADER))
            yield from self._line(row, position, console)

    def _line(self, row: Sequence[str], position: int, console: Console) -> RenderResult:
        text = ""  # of all cells since the last one with a style, since each segment takes time
        for (column, _), cell in zip(self._shown, row, strict=True):
            style = column.styles[position] if column.styles else ""
            if style:
                content = cell.strip(" ")
                before, _, after = cell.partition(content)
                yield Segment(text + before)
                yield Segment(content, console.get_style(style))
                text = after + " " * GAP
            else:
                text += cell + " " * GAP
        yield Segment(f"{text.rstrip(' ')}\n")


def _padded(column: Column, width: int) -> list[str]:
    cells = [column.header, *column.cells]
    spaces = [" " * (width - one) for one in _widths(cells)]
    if column.is_right:
        return [space + cell for cell, space in zip(cells, spaces, strict=True)]
    return [cell + space for cell, space in zip(cells, spaces, strict=True)]


def _widths(cells: Sequence[str]) -> list[int]:
    # In one call for all cells, since there are hundreds of thousands.
    return list(map(len if "".join(cells).isascii() else text_width, cells))


def _joined(cells: Sequence[str]) -> str:
    return (" " * GAP).join(cells).rstrip(" ")
