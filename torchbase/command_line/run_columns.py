"""The columns of the table of runs."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from torchbase.command_line.run_keys import Key, ListedRun, header_of, lowest_loss, phases_of
from torchbase.command_line.run_records import differing_paths
from torchbase.command_line.run_table import Column
from torchbase.command_line.terminal import NOTHING, STYLES, crop, crop_value, format_number, plain, short_names
from torchbase.command_line.times import format_duration
from torchbase.files.json_values import NOT_GIVEN
from torchbase.run_directory.names import LOSS, VALIDATION_PREFIX

GROUP_PATH = "session.group"
RANK_OF_REQUESTED = 3


def columns_of(
    runs: Sequence[ListedRun], requested: Iterable[Key], max_tag_width: int, max_value_width: int, *, has_groups: bool
) -> list[Column]:
    """Makes the columns of a table.

    Args:
        runs: The runs, at least one.
        requested: The keys that are shown in any case.
        max_tag_width: The width to which a tag is cropped.
        max_value_width: The width to which a value of a config is cropped.
        has_groups: Whether there is a column of the groups.

    Returns:
        The columns from the left.
    """
    progress = _columns_of_progress(runs, max_tag_width, has_groups=has_groups)
    columns = {
        **progress,
        **{key.name: _column_of(key, runs) for key in requested if key.name not in progress},
        **_columns_of_losses(runs),
        **_columns_of_times(runs),
        **_columns_of_configs(runs, max_value_width),
    }
    names = {key.name for key in requested}
    return [
        replace(column, rank=min(column.rank, RANK_OF_REQUESTED)) if name in names else column
        for name, column in columns.items()
    ]


def differing_paths_of(runs: Iterable[ListedRun]) -> list[str]:
    """Finds the paths at which the configs of runs differ, without the group.

    Args:
        runs: The runs.
    """
    return [path for path in differing_paths([listed.config for listed in runs]) if path != GROUP_PATH]


def _columns_of_progress(runs: Sequence[ListedRun], max_tag_width: int, *, has_groups: bool) -> dict[str, Column]:
    saved = [listed.run for listed in runs]
    columns = {"run": Column("run", [crop(plain(run.tag), max_tag_width) for run in saved])}
    if has_groups:
        columns["group"] = Column("group", [plain(run.group or NOTHING) for run in saved])
    states = [run.state for run in saved]
    columns["state"] = Column("state", states, rank=1, styles=[STYLES[state] for state in states])
    if any(run.max_iterations is not None for run in saved):
        cells = [_fraction(run.iterations, run.max_iterations) for run in saved]
        columns["iterations"] = Column("iterations", cells, is_right=True, rank=2)
    epochs = [_fraction(run.epochs_done, run.max_epochs if run.max_iterations is None else None) for run in saved]
    totals = [run.max_epochs is None and run.max_iterations is None for run in saved]
    cells = [f"{cell}/?" if has_no_total else cell for cell, has_no_total in zip(epochs, totals, strict=True)]
    return {**columns, "epochs": Column("epochs", cells, is_right=True, rank=2)}


def _fraction(done: int | None, total: int | None) -> str:
    text = "?" if done is None else str(done)
    return text if total is None else f"{text}/{total}"


def _columns_of_losses(runs: Sequence[ListedRun]) -> dict[str, Column]:
    phases = [phase for phase, names in phases_of(listed.run for listed in runs).items() if LOSS in names]
    shown = [phase for phase in phases if phase.startswith(VALIDATION_PREFIX)] or phases
    columns: dict[str, Column] = {}
    for phase, short in short_names(phases).items():
        if phase in shown:
            cells = _with_epochs([lowest_loss(listed.run, phase) for listed in runs])
            rank = 6 if columns else 4
            columns[plain(f"{short}/{LOSS}/lowest")] = Column(f"{short} loss", cells, is_right=True, rank=rank)
    return columns


def _with_epochs(bests: Sequence[tuple[float, int] | None]) -> list[str]:
    digits = max((len(str(best[1])) for best in bests if best is not None), default=0)
    nothing = NOTHING.ljust(len(NOTHING) + len(" @") + digits)  # aligned with the numbers
    return [nothing if best is None else f"{format_number(best[0])} @{str(best[1]).ljust(digits)}" for best in bests]


def _columns_of_times(runs: Sequence[ListedRun]) -> dict[str, Column]:
    times = {
        "duration": (6, [listed.run.seconds for listed in runs]),
        "epoch_time": (7, [listed.run.epoch_seconds for listed in runs]),
    }
    return {
        name: Column(name, [format_duration(one) for one in seconds], is_right=True, rank=rank)
        for name, (rank, seconds) in times.items()
        if any(one is not None for one in seconds)
    }


def _columns_of_configs(runs: Sequence[ListedRun], max_width: int) -> dict[str, Column]:
    columns = {}
    paths = differing_paths_of(runs)
    for path in paths:
        values = [listed.config.get(path, NOT_GIVEN) for listed in runs]
        cells = [crop_value(value, max_width) for value in values]
        are_numbers = all(value is NOT_GIVEN or isinstance(value, int | float) for value in values)
        columns[path] = Column(plain(header_of(path, paths)), cells, is_right=are_numbers, rank=5)
    return columns


def _column_of(key: Key, runs: Sequence[ListedRun]) -> Column:
    cells = [key.cell_of(run) for run in runs]
    if key.epoch_of is not None:
        values = [(key.value_of(run), key.epoch_of(run)) for run in runs]
        cells = _with_epochs(
            [(value, epoch) if isinstance(value, float) and epoch else None for value, epoch in values]
        )
    return Column(plain(key.name), cells, key.is_right, RANK_OF_REQUESTED)
