"""The best networks of a run, as a table."""

from pathlib import Path

from rich.console import Console
from rich.text import Text

from torchbase.command_line.run_records import attempt
from torchbase.command_line.terminal import HEADER, Trimmed, format_number, make_table, plain, short_names
from torchbase.run_directory.best_networks import read_best_networks


def write_best_networks(console: Console, run: Path) -> list[str]:
    """Writes which of the best networks a run has saved, if it has saved any.

    Args:
        console: The console.
        run: The run directory.

    Returns:
        What can't be read, and why.
    """
    damages: list[str] = []
    best = attempt(lambda: read_best_networks(run), damages)
    if best is not None and best.networks:
        title = f"best networks, by the {plain(best.monitor)} of {short_names([best.phase])[best.phase]}"
        table = make_table("  epoch", "value", "file", right=("value",))
        for column in table.columns[:2]:
            column.no_wrap = True
        for one in best.networks:
            table.add_row(f"  {one.epoch}", format_number(one.value), plain(one.file))
        console.print()
        console.print(Text(title, style=HEADER))
        console.print(Trimmed(table))
        damages += [f"{one.file} is listed and missing" for one in best.networks if not (run / one.file).exists()]
    return damages
