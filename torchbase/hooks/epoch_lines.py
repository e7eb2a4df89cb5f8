"""The lines that report the averages of an epoch: one line, two, or a table if these would be too wide."""

import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence

from tqdm import tqdm

from torchbase.engine.run import Run

PLAIN_WIDTH = 80
WORTH_SAYING = 10.0  # seconds left
# Reserved for what a line ends with, so that all epochs of a run look the same.
_ENDING_WIDTH = len("00:12, 1:03:54 left, best")
_MAX_NAME_WIDTH = 24
_GAP = "  "


class EpochClock:
    """Measures the seconds of an epoch, and estimates how many are left."""

    def __init__(self) -> None:
        """Starts the clock."""
        self._run_started_at: float | None = None
        self._iterations_before = 0
        self._epoch_started_at = time.monotonic()

    def start_run(self) -> None:
        """Forgets the run before."""
        self._run_started_at = None

    def start_epoch(self, run: Run) -> None:
        """Starts an epoch.

        Args:
            run: The run.
        """
        self._epoch_started_at = time.monotonic()
        if self._run_started_at is None:
            self._run_started_at, self._iterations_before = self._epoch_started_at, run.progress.iterations

    def describe(self, run: Run) -> str:
        """Returns how long the epoch took and, if it is worth saying, an estimate of the time left.

        Args:
            run: The run, at the end of an epoch.

        Returns:
            A text such as ``00:12, 03:54 left``. The estimate is the number of training iterations left, times the
            average duration of one in this program, with its share of validation and checkpoints.
        """
        now = time.monotonic()
        seconds = now - self._epoch_started_at
        taken = f"{seconds:.1f} s" if seconds < WORTH_SAYING else tqdm.format_interval(seconds)
        done = run.progress.iterations - self._iterations_before
        if self._run_started_at is None or done == 0 or run.stop_reason is not None:
            return taken
        left = _iterations_left(run) * (now - self._run_started_at) / done
        return taken if left < WORTH_SAYING else f"{taken}, {tqdm.format_interval(left)} left"


def terminal_width() -> int:
    """Returns the width of the terminal; without one, that of a page."""
    return shutil.get_terminal_size((PLAIN_WIDTH, 24)).columns


def describe_averages(
    position: str, averages: Mapping[str, Mapping[str, float]], ending: str = "", width: int = PLAIN_WIDTH
) -> str:
    """Returns a line with averages; if it is too wide, two lines, or a table with a row for each set.

    Args:
        position: What the line begins with, such as ``epoch 1/5``.
        averages: The averages by the name of the set, and by the name of the value.
        ending: What the line, or the first line of the table, ends with.
        width: The width in columns. No number is broken: a table has as many columns as fit, and goes on below.

    Returns:
        The lines.
    """
    sets = " | ".join(f"{name}: {_describe(values)}" for name, values in averages.items())
    line = _GAP.join(part for part in (position, sets, ending) if part)
    missing = max(0, _ENDING_WIDTH - len(ending)) if ending else 0
    if len(line) + missing <= width:
        return line
    head = _GAP.join(part for part in (position, ending) if part)
    rows = [f"{_GAP}{sets}"] if len(_GAP + sets) <= width else _table(averages, width)
    return "\n".join([head, *rows])


def _iterations_left(run: Run) -> int:
    left_of_epochs = (run.max_epochs - run.epochs_done) * run.training.progress.mini_batches
    if run.max_iterations is None:
        return left_of_epochs
    return min(max(0, run.max_iterations - run.progress.iterations), left_of_epochs)


def _describe(averages: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {averages[name]:.4g}" for name in _loss_first(averages))


def _loss_first(names: Mapping[str, float]) -> list[str]:
    return sorted(names, key=lambda name: name != "loss")  # the others in their order


def _table(averages: Mapping[str, Mapping[str, float]], width: int) -> Iterator[str]:
    names = _loss_first({name: value for values in averages.values() for name, value in values.items()})
    columns = [[name, *(_cell(values, name) for values in averages.values())] for name in names]
    sets = ["", *(_cropped(name, _MAX_NAME_WIDTH) for name in averages)]
    sets = [f"{_GAP}{name.ljust(max(map(len, sets)))}" for name in sets]
    room = width - len(sets[0]) - len(_GAP)
    aligned = [_aligned([_cropped(column[0], room), *column[1:]]) for column in columns]
    for group in _groups(aligned, width - len(sets[0])):
        for row, name in enumerate(sets):
            yield name + "".join(f"{_GAP}{column[row]}" for column in group)


def _groups(columns: Sequence[list[str]], room: int) -> Iterator[list[list[str]]]:
    """Splits columns into groups that fit; a column that is too wide by itself is a group."""
    group: list[list[str]] = []
    used: float = 0
    for column in columns:
        width = len(_GAP) + len(column[0])
        if group and used + width > room:
            yield group
            group, used = [], 0
        group.append(column)
        used += width
    if group:
        yield group


def _aligned(cells: Sequence[str]) -> list[str]:
    width = max(map(len, cells))
    return [cell.rjust(width) for cell in cells]


def _cell(values: Mapping[str, float], name: str) -> str:
    if name not in values:
        return "-"
    value = values[name]
    return f"{value:#.4g}".removesuffix(".") if math.isfinite(value) else str(value)


def _cropped(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
