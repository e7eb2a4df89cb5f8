"""Curves in the terminal: lines of Braille dots, each with its name at its end."""

from collections.abc import Mapping

from plotille import Canvas
from rich.text import Text

from torchbase.command_line.curves import Points, Scale, epochs_of, thinned
from torchbase.command_line.terminal import cropped, number, width_of

COLOURS = ("cyan", "yellow", "magenta", "green", "red", "blue")
ROWS = 12
NARROWEST = 40
WIDEST_NAME = 20
AXIS = " ┤"
EMPTY_DOTS = "\u2800"


def draw(curves: Mapping[str, Points], scale: Scale, width: int) -> Text:
    """Draws curves over the epochs.

    Args:
        curves: The curves by their names.
        scale: That of their values.
        width: How many columns of the terminal there are, at least ``NARROWEST``.

    Returns:
        The drawing, without an end of line.
    """
    epochs = epochs_of(curves.values())
    rows = max(ROWS, len(curves) + 1)
    heads = _heads(scale, rows)
    name_width = min(WIDEST_NAME, max(map(width_of, curves)))
    columns = width - len(heads[0]) - name_width - 1
    canvas = Canvas(columns, rows, xmax=1 + 1 / (2 * columns - 1), ymax=1 + 1 / (4 * rows - 1))
    ends: dict[str, float] = {}
    for (name, curve), colour in zip(curves.items(), _colours(len(curves)), strict=True):
        for piece in thinned(curve, 2 * columns):
            placed = [(epochs.position(epoch), scale.position(value)) for epoch, value in piece]
            for begin, end in zip(placed, placed[1:] or placed, strict=False):
                canvas.line(*begin, *end, color=colour)
            ends[name] = placed[-1][1]
    names = _names_by_row(ends, rows, name_width)
    lines = [
        Text.assemble(head, Text.from_ansi(line.replace(EMPTY_DOTS, " ")), " ", names.get(row, ""))
        for row, (head, line) in enumerate(zip(heads, canvas.plot("\n").split("\n"), strict=True))
    ]
    for line in lines:
        line.rstrip()
    return Text("\n").join([*lines, *_foot(epochs, len(heads[0]), columns)])


def _colours(count: int) -> list[str]:
    return [COLOURS[position % len(COLOURS)] for position in range(count)]


def _heads(scale: Scale, rows: int) -> list[str]:
    # A label for each third row; the value is that in the middle of the row.
    places = [1 - row / (rows - 1) if row % 3 == 0 or row == rows - 1 else None for row in range(rows)]
    labels = ["" if place is None else number(scale.value_at(place)) for place in places]
    width = max(map(len, labels))
    return [f"{label:>{width}}{AXIS if label else AXIS.replace('┤', '│')}" for label in labels]


def _foot(epochs: Scale, indent: int, columns: int) -> list[Text]:
    first, last = f"{epochs.value_at(0):.0f}", f"{epochs.value_at(1):.0f}"
    if epochs.high - epochs.low <= 1 and first == last:
        first = ""
    title = "epoch"
    middle = title.center(max(len(title), columns - len(first) - len(last)))
    return [Text(" " * (indent - 1) + "└" + "─" * columns), Text(" " * indent + first + middle + last)]


def _names_by_row(ends: Mapping[str, float], rows: int, width: int) -> dict[int, Text]:
    colours = dict(zip(ends, _colours(len(ends)), strict=True))
    wanted = sorted(ends, key=lambda name: -ends[name])
    placed: dict[int, Text] = {}
    row = -1
    for position, name in enumerate(wanted):
        row = max(row + 1, round((1 - ends[name]) * (rows - 1)))
        row = min(row, rows - (len(wanted) - position))  # leaves room for those below
        placed[row] = Text(cropped(name, width), style=colours[name])
    return placed
