"""A comparison of runs as one self-contained page of HTML, without network access or scripts."""

from html import escape

from torchbase.command_line.comparison import Comparison, Row, collect_curves
from torchbase.command_line.curves import span_magnitudes
from torchbase.command_line.svg_curves import COLOURS, draw_svg
from torchbase.command_line.terminal import plain, short_names
from torchbase.command_line.verdicts import Verdicts

# Colours that colour-blind people can distinguish, after Okabe and Ito: https://jfly.uni-koeln.de/color/
ON_WHITE = ("#0072b2", "#d55e00", "#008a65", "#b8418c", "#8a6d00", "#2a9fd6", "#5b4fc4", "#444444")
ON_BLACK = ("#56b4e9", "#ff8c42", "#2fc99b", "#e58fc0", "#e6c229", "#9ad5ff", "#a79bff", "#cccccc")

STYLE = """
:root { color-scheme: light dark; --text: #1b1b1b; --faint: #666; --line: #ddd; --back: #fff; --best: #00664a; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e8e8e8; --faint: #a0a0a0; --line: #3a3a3a; --back: #16181b; --best: #5fd6ae; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back); margin: 2rem auto;
       max-width: 74rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .9rem .2rem 0; text-align: left; white-space: nowrap; }
td + td, thead th + th { text-align: right; } .texts td + td { text-align: left; }
tbody th { font-weight: 600; padding-top: .9rem; }
tbody td { border-top: 1px solid var(--line); }
.best { color: var(--best); font-weight: 600; }
ul { list-style: none; padding: 0; } code { font: .9em ui-monospace, monospace; overflow-wrap: anywhere; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(21rem, 1fr)); gap: 1rem 1.5rem; }
figure { margin: 0; } figcaption { font-weight: 600; }
svg { width: 100%; height: auto; }
svg text { font-size: 12px; fill: var(--faint); paint-order: stroke; stroke: var(--back); stroke-width: 3px; }
.grid { stroke: var(--line); } .axis { stroke: var(--faint); }
polyline { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
"""


def make_page(comparison: Comparison) -> str:
    """Creates the page.

    Args:
        comparison: The comparison.

    Returns:
        HTML, with all styles and figures in it.
    """
    title = f"{len(comparison.runs)} runs side by side"
    positions = {label: position for position, label in enumerate(comparison.labels)}
    runs = "\n".join(
        f'<li><b class="dot-{positions[label] % COLOURS}">{label}</b> <code>{escape(plain(run.path))}</code></li>'
        for label, run in zip(comparison.labels, comparison.runs, strict=True)
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{STYLE}{_colours()}</style>
</head>
<body>
<h1>{title}</h1>
<ul>
{runs}
</ul>
{_table(comparison)}
{_verdicts(comparison.verdicts)}
{_sameness(comparison)}
{_figures(comparison, positions)}
</body>
</html>
"""


def _colours() -> str:
    def rules(colours: tuple[str, ...]) -> str:
        return "\n".join(
            f".curve-{n} {{ stroke: {colour}; }} .dot-{n}, svg .dot-{n} {{ fill: {colour}; color: {colour}; }}"
            for n, colour in enumerate(colours)
        )

    return f"{rules(ON_WHITE)}\n@media (prefers-color-scheme: dark) {{\n{rules(ON_BLACK)}\n}}\n"


def _table(comparison: Comparison) -> str:
    headers = "".join(f"<th>{label}</th>" for label in comparison.labels)
    lines = []
    for title, rows in comparison.parts.items():
        lines.append(f'<tr><th colspan="{len(comparison.labels) + 1}">{escape(title)}</th></tr>')
        lines += [_row(row) for row in rows] or ["<tr><td>none</td></tr>"]
    head = f"<thead><tr><th></th>{headers}</tr></thead>"
    body = "\n".join(lines)
    return f'<div class="wide"><table>\n{head}\n<tbody>\n{body}\n</tbody>\n</table></div>'


def _verdicts(verdicts: Verdicts) -> str:
    if not verdicts.verdicts:
        return ""
    lines = [
        f"<tr><td>{escape(verdict.name)}</td><td>{'<br>'.join(map(escape, verdict.lines))}</td></tr>"
        for verdict in verdicts.verdicts
    ]
    body = "\n".join(lines)
    return f'<h2>{escape(verdicts.title)}</h2>\n<div class="wide"><table class="texts">\n{body}\n</table></div>'


def _sameness(comparison: Comparison) -> str:
    return "\n".join(f"<p>{escape(sentence)}</p>" for sentence in comparison.sameness.sentences)


def _row(row: Row) -> str:
    marks = [' class="best"' if position in row.best else "" for position in range(len(row.cells))]
    cells = "".join(f"<td{mark}>{escape(cell)}</td>" for mark, cell in zip(marks, row.cells, strict=True))
    return f"<tr><td>{escape(row.name)}</td>{cells}</tr>"


def _figures(comparison: Comparison, positions: dict[str, int]) -> str:
    curves = collect_curves(comparison)
    parts = []
    for name in dict.fromkeys(name for name, _ in curves):
        by_phase = {phase: curves[name, phase] for other, phase in curves if other == name}
        is_logarithmic = span_magnitudes(curve for runs in by_phase.values() for curve in runs.values())
        figures = []
        for phase, short in short_names(by_phase).items():
            svg = draw_svg(by_phase[phase], positions, is_logarithmic, f"{short}: {plain(name)} over the epochs")
            figures.append(f"<figure><figcaption>{escape(short)}</figcaption>\n{svg}</figure>")
        parts.append(f'<h2>{escape(plain(name))}</h2>\n<div class="pictures">\n' + "\n".join(figures) + "\n</div>")
    return "\n".join(parts)
