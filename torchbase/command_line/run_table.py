"""A table of very many rows, of which each is one line.

rich takes 50 µs to lay out a cell, which makes a third of a second for a thousand runs; so its layout is done here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment

from torchbase.command_line.terminal import HEAD, width_of

GAP = 2


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        head: Its head.
        cells: Its cells, from the top.
        is_right: Whether they stand at the right.
        rank: Columns of a lower rank are kept where not all fit in the width.
        styles: The styles of the cells, if they have any.
    """

    head: str
    cells: Sequence[str]
    is_right: bool = False
    rank: int = 0
    styles: Sequence[str] = ()

    @property
    def width(self) -> int:
        """How many columns of the terminal it takes."""
        return max(map(width_of, (self.head, *self.cells)))


class RunTable:
    """Columns side by side, as many as fit.

    Attributes:
        left_out: The heads of those that don't fit.
    """

    def __init__(self, columns: Sequence[Column], width: int) -> None:
        """Chooses the columns that fit.

        Args:
            columns: The columns from the left; one of the lowest rank is always shown.
            width: How many columns of the terminal there are.
        """
        widths = [column.width for column in columns]
        left = width + GAP
        chosen: list[int] = []
        for position in sorted(range(len(columns)), key=lambda position: columns[position].rank):
            if widths[position] + GAP <= left or not chosen:
                chosen.append(position)
                left -= widths[position] + GAP
        self._shown = [(columns[position], widths[position]) for position in sorted(chosen)]
        self.left_out = [column.head for position, column in enumerate(columns) if position not in chosen]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Gives the lines, as rich asks for them."""
        yield from self._line([column.head for column, _ in self._shown], [HEAD] * len(self._shown), console)
        for row in range(len(self._shown[0][0].cells)):
            cells = [column.cells[row] for column, _ in self._shown]
            styles = [column.styles[row] if column.styles else "" for column, _ in self._shown]
            yield from self._line(cells, styles, console)

    def _line(self, cells: Sequence[str], styles: Sequence[str], console: Console) -> RenderResult:
        ahead = ""  # so that no line ends with spaces
        for (column, width), cell, style in zip(self._shown, cells, styles, strict=True):
            space = " " * (width - width_of(cell))
            yield Segment(ahead + space if column.is_right else ahead)
            yield Segment(cell, console.get_style(style) if style else None)
            ahead = " " * GAP if column.is_right else space + " " * GAP
        yield Segment.line()
