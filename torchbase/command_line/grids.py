"""Tables of numbers that are split until they fit the width, so that no number is broken or cropped."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from torchbase.command_line.terminal import make_table, text_width

GAP = 2
INDENT = 4


@dataclass(frozen=True)
class GridColumn:
    """A column of a grid.

    Attributes:
        header: The header.
        cells: The cells, from the top. They may have several lines.
        is_right: Whether the cells are aligned right.
    """

    header: str
    cells: Sequence[Text]
    is_right: bool = True

    @property
    def width(self) -> int:
        """The width of the column, in columns of the terminal."""
        lines = [line for cell in self.cells for line in cell.plain.split("\n")]
        return max(1, *map(text_width, (self.header, *lines)))


def make_grids(names: Sequence[Text], columns: Sequence[GridColumn], width: int) -> Iterator[Table]:
    """Makes tables with the names of the rows at the left, and as many columns side by side as fit.

    A name or a header that is too long is folded, and a text breaks between words. A name takes half of the width at
    most, so the cells have the other half.

    Args:
        names: The names of the rows.
        columns: The columns.
        width: The width of the terminal, in columns.

    Yields:
        The tables. Each has all rows.
    """
    most = width // 2
    width_of_names = min(most, max((text_width(name.plain) for name in names), default=0))
    left = max(1, width - width_of_names)
    block: list[GridColumn] = []
    for column in columns:
        if block and _width_of([*block, column]) > left:
            yield _make_grid(names, block, width_of_names, left)
            block = []
        block.append(column)
    if block:
        yield _make_grid(names, block, width_of_names, left)


def _width_of(columns: Sequence[GridColumn]) -> int:
    return sum(column.width + GAP for column in columns)


def _make_grid(names: Sequence[Text], columns: Sequence[GridColumn], width_of_names: int, left: int) -> Table:
    table = make_table("", *(column.header for column in columns))
    for column, content in zip(table.columns[1:], columns, strict=True):
        column.width = max(1, min(content.width, left - GAP))
        column.justify = "right" if content.is_right else "left"
    for row, name in enumerate(names):
        table.add_row(_folded(name, width_of_names), *(column.cells[row] for column in columns))
    return table


def _folded(name: Text, width: int) -> Text:
    """Breaks a name into lines, those after the first with an indent, so that each row can be recognized."""
    lines, rest = [], name
    most = max(width, INDENT + 1)
    while text_width(rest.plain) > most:
        end = len(rest.plain)
        while text_width(rest.plain[:end]) > most:
            end -= 1
        lines.append(rest[:end])
        rest = Text.assemble(" " * INDENT, rest[end:])
    return Text("\n").join([*lines, rest])
