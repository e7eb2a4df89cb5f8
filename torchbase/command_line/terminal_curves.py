"""Curves in the terminal: lines of Braille dots, with the curve's name at the end of each line."""

from collections.abc import Mapping

from plotille import Canvas
from rich.text import Text

from torchbase.command_line.curves import Points, Scale, make_epoch_scale, thin_out
from torchbase.command_line.terminal import crop, format_number, text_width

COLOURS = ("cyan", "yellow", "magenta", "green", "red", "blue")
ROWS = 12
MIN_WIDTH = 40
MAX_NAME_WIDTH = 20
AXIS = " ┤"
EMPTY_DOTS = "\u2800"


def draw(curves: Mapping[str, Points], scale: Scale, width: int) -> Text:
    """Draws curves over the epochs.

    Args:
        curves: The curves by their names.
        scale: The scale of their values.
        width: The width of the terminal, in columns, at least ``MIN_WIDTH``.

    Returns:
        The drawing, without a line end.
    """
    epochs = make_epoch_scale(curves.values())
    rows = max(ROWS, len(curves) + 1)
    ticks = _y_ticks(scale, rows)
    name_width = min(MAX_NAME_WIDTH, max(map(text_width, curves)))
    columns = width - len(ticks[0]) - name_width - 1
    canvas = Canvas(columns, rows, xmax=1 + 1 / (2 * columns - 1), ymax=1 + 1 / (4 * rows - 1))
    ends: dict[str, float] = {}
    for (name, curve), colour in zip(curves.items(), _colours(len(curves)), strict=True):
        for piece in thin_out(curve, 2 * columns):
            placed = [(epochs.position(epoch), scale.position(value)) for epoch, value in piece]
            for begin, end in zip(placed, placed[1:] or placed, strict=False):
                canvas.line(*begin, *end, color=colour)
            ends[name] = placed[-1][1]
    names = _names_by_row(ends, rows, name_width)
    lines = [
        Text.assemble(tick, Text.from_ansi(line.replace(EMPTY_DOTS, " ")), " ", names.get(row, ""))
        for row, (tick, line) in enumerate(zip(ticks, canvas.plot("\n").split("\n"), strict=True))
    ]
    for line in lines:
        line.rstrip()
    return Text("\n").join([*lines, *_x_axis(epochs, len(ticks[0]), columns)])


def _colours(count: int) -> list[str]:
    return [COLOURS[position % len(COLOURS)] for position in range(count)]


def _y_ticks(scale: Scale, rows: int) -> list[str]:
    # A label for each third row, with the value at the middle of the row.
    positions = [1 - row / (rows - 1) if row % 3 == 0 or row == rows - 1 else None for row in range(rows)]
    labels = ["" if position is None else format_number(scale.value_at(position)) for position in positions]
    width = max(map(len, labels))
    return [f"{label:>{width}}{AXIS if label else AXIS.replace('┤', '│')}" for label in labels]


def _x_axis(epochs: Scale, indent: int, columns: int) -> list[Text]:
    first, last = f"{epochs.value_at(0):.0f}", f"{epochs.value_at(1):.0f}"
    if epochs.high - epochs.low <= 1 and first == last:
        first = ""
    title = "epoch"
    middle = title.center(max(len(title), columns - len(first) - len(last)))
    return [Text(" " * (indent - 1) + "└" + "─" * columns), Text(" " * indent + first + middle + last)]


def _names_by_row(ends: Mapping[str, float], rows: int, width: int) -> dict[int, Text]:
    colours = dict(zip(ends, _colours(len(ends)), strict=True))
    from_the_top = sorted(ends, key=lambda name: -ends[name])
    placed: dict[int, Text] = {}
    row = -1
    for position, name in enumerate(from_the_top):
        row = max(row + 1, round((1 - ends[name]) * (rows - 1)))
        row = min(row, rows - (len(from_the_top) - position))  # leaves room for the names below
        placed[row] = Text(crop(name, width), style=colours[name])
    return placed
