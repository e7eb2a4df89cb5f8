"""The averages of a run as an HTML table, for notebooks."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Protocol


class Lowest(Protocol):
    """The lowest loss of a validation set."""

    @property
    def loss(self) -> float:
        """The loss."""

    @property
    def epoch(self) -> int:
        """The epoch in which it was measured."""


def table_of_averages(
    averages: Mapping[str, Mapping[str, float]], best_losses: Mapping[str, Lowest], ending: str
) -> str:
    """Returns a table with a row for each phase: https://ipython.readthedocs.io/en/stable/config/integrating.html.

    Args:
        averages: The averages of the last epoch, by phase and by name.
        best_losses: The lowest loss of each validation set, by phase.
        ending: A sentence below the table.

    Returns:
        HTML. Without averages, the sentence alone.
    """
    names = list(dict.fromkeys(name for values in averages.values() for name in values))
    head = _row("th", ["", *names, "lowest loss", "in epoch"])
    rows = [_row("td", [phase, *_cells(values, names, best_losses.get(phase))]) for phase, values in averages.items()]
    table = f"<table>{head}{''.join(rows)}</table>" if names else ""
    return f"{table}<p>{escape(ending)}</p>"


def _cells(averages: Mapping[str, float], names: Sequence[str], best: Lowest | None) -> list[str]:
    values = [f"{averages[name]:.4g}" if name in averages else "" for name in names]
    return [*values, *(["", ""] if best is None else [f"{best.loss:.4g}", str(best.epoch)])]


def _row(kind: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{kind}>{escape(cell)}</{kind}>" for cell in cells) + "</tr>"
