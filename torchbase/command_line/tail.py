"""``torchbase tail``: follows a run that is training, and says how it ended."""

import argparse
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from rich.console import Console
from rich.text import Text

from torchbase.command_line.following import NewEpochs, NewIterations
from torchbase.command_line.run_records import KILLED, RUNNING, UNCERTAIN, SavedRun, find_run, read_run
from torchbase.command_line.terminal import (
    FAINT,
    HEADER,
    STYLES,
    Trimmed,
    crop,
    format_number,
    make_console,
    pack,
    plain,
    short_names,
    text_width,
    write_notes,
)
from torchbase.command_line.times import format_duration
from torchbase.errors import RunDirectoryError
from torchbase.run_directory.names import LOSS, TRAINING
from torchbase.run_directory.record import Epoch

SECONDS_BETWEEN_LOOKS = 0.5
LOOKS_BETWEEN_ITERATIONS = 10
LINES_AT_FIRST = 10
MAX_NAME_WIDTH = 30


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments.

    Args:
        parser: The parser of the command.
    """
    parser.description = (
        "Follows a run: writes the averages of its epochs as they come, and ends with the run. Ctrl-C ends it before."
    )
    parser.add_argument("run", metavar="RUN", help="the path of the run directory, or its tag if it is in runs")
    parser.set_defaults(command=tail)


def tail(options: argparse.Namespace) -> int:
    """Follows a run.

    Args:
        options: The parsed arguments.

    Returns:
        1 if something in the run directory is damaged, else 0.

    Raises:
        RunDirectoryError: If the run doesn't exist.
    """
    return follow(find_run(options.run), lambda: time.sleep(SECONDS_BETWEEN_LOOKS))


def follow(run_dir: Path, wait: Callable[[], object]) -> int:
    """Writes what comes into the files of a run, until it ends.

    Args:
        run_dir: The run directory.
        wait: Called between two looks.

    Returns:
        1 if something in the run directory is damaged, else 0.

    Raises:
        RunDirectoryError: If the run directory is removed.
    """
    console = make_console()
    run = read_run(run_dir)
    lines = _Lines(console)
    lines.begin(run)
    while True:
        lines.write_new(run_dir)
        if run.state not in (RUNNING, UNCERTAIN):
            break
        console.file.flush()  # in a pipe, too
        wait()
        if not run_dir.is_dir():
            raise RunDirectoryError(
                f"{run_dir} was removed while it was followed. A run that ends with an error before it has results "
                "removes its directory; its own output says why it ended."
            )
        # Before the averages are read: those of a run that has ended are complete.
        run = read_run(run_dir)
    return lines.end(run)


class _Lines:
    """The lines that are written for a run."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._epochs, self._iterations = NewEpochs(), NewIterations()
        self._looks = 0

    def begin(self, run: SavedRun) -> None:
        state = (run.state, STYLES[run.state])
        self._console.print(Text.assemble((plain(run.tag), HEADER), "  ", state, f", {_progress_of(run)}"))
        for note in run.notes:
            self._write_faint(note)

    def write_new(self, run_dir: Path) -> None:
        is_first = not self._epochs.seen
        epochs, gone = self._epochs.look(run_dir)
        if gone:
            at = self._epochs.seen[-len(epochs) - 1].epoch if len(self._epochs.seen) > len(epochs) else 0
            self._write_faint(f"resumed from a checkpoint: the last {gone} lines are repeated, after epoch {at}")
        if is_first and len(epochs) > LINES_AT_FIRST:
            self._write_faint(f"{len(epochs) - LINES_AT_FIRST} earlier lines: torchbase show {run_dir}")
            epochs = epochs[-LINES_AT_FIRST:]
        for epoch in epochs:
            self._write_epoch(epoch)
        if self._looks % LOOKS_BETWEEN_ITERATIONS == 0:
            found = self._iterations.look(run_dir)
            if found is not None:
                self._write_values(f"iteration {found[0]:,}", found[1].items())
        self._looks += 1

    def end(self, run: SavedRun) -> int:
        reason = run.status.reason if run.status is not None else None
        if run.state == KILLED:
            reason = "its process ended without recording how"
        text = f" after {_progress_of(run)}{'' if reason is None else f': {plain(reason)}'}"
        self._console.print(Trimmed(Text.assemble((run.state, STYLES[run.state]), text)))
        damages = list(dict.fromkeys((*run.damages, *self._epochs.damages, *self._iterations.damages)))
        write_notes(self._console, damages)
        return int(bool(damages))

    def _write_epoch(self, epoch: Epoch) -> None:
        names = short_names(dict.fromkeys(one.phase for one in self._epochs.seen))
        width = min(MAX_NAME_WIDTH, max(map(text_width, names.values())))
        name = crop(names[epoch.phase], width)
        trained = any(one.phase == TRAINING and one.epoch == epoch.epoch for one in self._epochs.seen)
        within = "" if trained else f", iteration {epoch.iterations:,}"
        padding = " " * (width - text_width(name))
        self._write_values(f"epoch {epoch.epoch}{within}  {name}{padding}", epoch.averages.items())

    def _write_values(self, title: str, values: Iterable[tuple[str, float]]) -> None:
        indent = text_width(title) + 2
        left = max(self._console.width - indent, MAX_NAME_WIDTH)
        items = []
        for name, value in sorted(values, key=lambda item: item[0] != LOSS):
            number = format_number(value)
            items.append(f"{crop(plain(name), max(1, left - len(number) - 2))} {number}")
        lines = pack(items, left).splitlines() or [""]
        text = f"{title}  " + f"\n{' ' * indent}".join(lines)
        self._console.print(Text(text.rstrip()), soft_wrap=True)

    def _write_faint(self, text: str) -> None:
        self._console.print(Trimmed(Text(plain(text), style=FAINT)))


def _progress_of(run: SavedRun) -> str:
    done, iterations = ("?" if count is None else f"{count:,}" for count in (run.epochs_done, run.iterations))
    total, most = ("" if count is None else f" of {count:,}" for count in (run.max_epochs, run.max_iterations))
    epochs = f"{done}{total} epochs" if run.max_iterations is None else f"{done} epochs"
    duration = "" if run.seconds is None else f", {format_duration(run.seconds)}"
    return f"{epochs}, {iterations}{most} iterations{duration}"
