"""Curves as an inline SVG drawing."""

from collections.abc import Mapping
from html import escape

from torchbase.command_line.curves import Points, Scale, make_epoch_scale, make_scale, thin_out
from torchbase.command_line.terminal import format_number

WIDTH, HEIGHT = 460, 270
LEFT, RIGHT, TOP, BOTTOM = 60, 30, 20, 40
ABOVE_AXIS = 6
COLOURS = 8
DASHES = ("", "6 3", "2 3", "8 3 2 3")
Y_TICKS, X_TICKS = 5, 6
MAX_DOTS = 40
LABEL_HEIGHT = 13.0


def draw_svg(curves: Mapping[str, Points], positions: Mapping[str, int], is_logarithmic: bool, description: str) -> str:
    """Draws curves over the epochs.

    Args:
        curves: The curves by their labels.
        positions: The position of each label, which selects the colour and the dashes: the same in all drawings of a
            page.
        is_logarithmic: Whether the values are on a logarithmic scale, if all are positive.
        description: A description for screen readers.

    Returns:
        An element ``<svg>``; its colours come from the classes ``curve-0`` to ``curve-7`` of the page.
    """
    scale = make_scale(curves.values(), is_logarithmic)
    if scale is None:
        return f"<p>{escape(description)}: no finite value</p>"
    epochs = make_epoch_scale(curves.values())
    parts = [*_y_axis(scale), *_x_axis(epochs)]
    ends = {}
    for label, curve in curves.items():
        for piece in thin_out(curve, WIDTH):
            placed = [(_x(epochs, epoch), _y(scale, value)) for epoch, value in piece]
            parts.append(_line(placed, label, positions[label]))
            if len(curve) <= MAX_DOTS:
                parts += [
                    _dot(*place, *point, label, positions[label]) for place, point in zip(placed, piece, strict=True)
                ]
            ends[label] = placed[-1]
    parts += _labels(ends, positions)
    if scale.is_logarithmic:
        parts.append(f'<text x="{LEFT}" y="{TOP - 6}">logarithmic</text>')
    opening = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(description)}">'
    return "\n".join([opening, *parts, "</svg>"])


def _x(epochs: Scale, epoch: float) -> float:
    return LEFT + epochs.position(epoch) * (WIDTH - LEFT - RIGHT)


def _y(scale: Scale, value: float) -> float:
    return HEIGHT - BOTTOM - ABOVE_AXIS - scale.position(value) * (HEIGHT - TOP - BOTTOM - ABOVE_AXIS)


def _y_axis(scale: Scale) -> list[str]:
    parts = []
    for tick in scale.ticks(Y_TICKS):
        y = _y(scale, tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:.4g}</text>')
    return parts


def _x_axis(epochs: Scale) -> list[str]:
    bottom = HEIGHT - BOTTOM
    parts = [f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{bottom}" y2="{bottom}"/>']
    for tick in epochs.ticks(X_TICKS):
        if tick == round(tick):
            x = _x(epochs, tick)
            parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}"/>')
            parts.append(f'<text x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">{tick:.0f}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    return [*parts, f'<text x="{middle:.1f}" y="{HEIGHT - 6}" text-anchor="middle">epoch</text>']


def _line(placed: list[tuple[float, float]], label: str, position: int) -> str:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    dashes = DASHES[position // COLOURS % len(DASHES)]
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    kind = f"curve-{position % COLOURS}"
    return f'<polyline class="{kind}"{dashed} points="{points}"><title>{escape(label)}</title></polyline>'


def _dot(x: float, y: float, epoch: float, value: float, label: str, position: int) -> str:
    title = f"{escape(label)}, epoch {epoch:g}: {format_number(value)}"
    kind = f"dot-{position % COLOURS}"
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="2.5"><title>{title}</title></circle>'


def _labels(ends: Mapping[str, tuple[float, float]], positions: Mapping[str, int]) -> list[str]:
    placed: list[tuple[float, float]] = []
    parts = []
    for label in sorted(ends, key=lambda label: ends[label][1]):
        x, y = ends[label][0] + 6, _free_height(ends[label], placed)
        placed.append((ends[label][0], y))
        kind = f"dot-{positions[label] % COLOURS}"
        parts.append(f'<text class="{kind}" x="{x:.1f}" y="{y + 4:.1f}">{escape(label)}</text>')
    return parts


def _free_height(end: tuple[float, float], placed: list[tuple[float, float]]) -> float:
    """Returns the height nearest to the end of a curve at which its label doesn't overlap another label."""
    steps = sorted(range(-len(placed), len(placed) + 1), key=abs)
    for y in (end[1] + step * LABEL_HEIGHT for step in steps):
        near = [other for x, other in placed if abs(end[0] - x) < 2 * LABEL_HEIGHT]
        if TOP <= y <= HEIGHT - BOTTOM and all(abs(y - other) >= LABEL_HEIGHT for other in near):
            return y
    return end[1]
