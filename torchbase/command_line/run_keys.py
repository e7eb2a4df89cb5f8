"""The keys by which the runs of a folder are sorted, filtered and listed, and what each run has for them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torchbase.command_line.literals import parse_literal, parse_state, parse_text, parse_timestamp
from torchbase.command_line.run_records import SavedRun
from torchbase.command_line.terminal import NOTHING, format_number, format_value, plain, short_names
from torchbase.command_line.times import format_duration, format_time, parse_time
from torchbase.errors import RunDirectoryError, did_you_mean
from torchbase.files.json_values import NOT_GIVEN
from torchbase.run_directory.names import LOSS
from torchbase.run_directory.value_ranges import ValueRange

BEST_FIELDS = {"min": "lowest", "max": "highest", None: "last"}


@dataclass(frozen=True)
class ListedRun:
    """A run with its config.

    Attributes:
        run: The run.
        config: The values of its config by path.
    """

    run: SavedRun
    config: Mapping[str, Any]


@dataclass(frozen=True)
class Key:
    """Something that runs have.

    Attributes:
        name: Its name.
        value_of: Returns what a run has; None if it has nothing.
        cell_of: Returns the text of a table for it.
        parse: Reads a value to compare it with.
        is_right: Whether the cells are aligned right.
        is_descending: Whether the highest value comes first.
        epoch_of: Returns the epoch of the value; None if the key has no epochs.
    """

    name: str
    value_of: Callable[[ListedRun], object]
    cell_of: Callable[[ListedRun], str]
    parse: Callable[[str], object] = parse_literal
    is_right: bool = True
    is_descending: bool = False
    epoch_of: Callable[[ListedRun], int | None] | None = None


def keys_of(runs: Sequence[ListedRun]) -> dict[str, Key]:
    """Finds the keys of runs.

    Args:
        runs: The runs.

    Returns:
        The keys by their names; a key may have several.
    """
    known = {key.name: key for key in _FIXED}
    for name, key in (*_keys_of_values(runs), *_keys_of_configs(runs)):
        known.setdefault(name, key)
    return known


def find_key(name: str, known: Mapping[str, Key]) -> Key:
    """Returns the key of a name.

    Args:
        name: The name.
        known: The keys by name.

    Raises:
        RunDirectoryError: If there is no such key. The message suggests one.
    """
    if name not in known:
        # Without the fields of each value, which make a list too long to read.
        listed = [one for one in known if one.rpartition("/")[2] not in ValueRange._fields]
        hint = did_you_mean(name, known) or f" Available: {', '.join(listed)}."
        raise RunDirectoryError(f"The runs have no key {name!r}.{hint}")
    return known[name]


def sort_runs(runs: Iterable[ListedRun], key: Key) -> list[ListedRun]:
    """Sorts runs by a key: numbers first, then texts, then runs that have no value, or NaN.

    Args:
        runs: The runs.
        key: The key.
    """
    sign = -1 if key.is_descending else 1

    def rank(run: ListedRun) -> tuple[int, float, str]:
        value = key.value_of(run)
        if isinstance(value, int | float) and value == value:
            return 0, sign * value, ""
        return (2, 0.0, "") if value is None or isinstance(value, float) else (1, 0.0, str(value))

    return sorted(runs, key=rank)


def lowest_loss(run: SavedRun, phase: str) -> tuple[float, int] | None:
    """Returns the lowest loss of a phase and its epoch.

    Args:
        run: The run.
        phase: The name of the phase.

    Returns:
        The loss of the best epochs, or else that of all epochs; None if there is none.
    """
    best = run.best_losses.get(phase)
    if best is not None:
        return best.loss, best.epoch
    found = run.values.get(phase, {}).get(LOSS)
    return None if found is None else (found.lowest, found.lowest_epoch)


def phases_of(runs: Iterable[SavedRun]) -> dict[str, dict[str, None]]:
    """Collects the names of values.

    Args:
        runs: The runs.

    Returns:
        By the name of each phase, the names of its values.
    """
    phases: dict[str, dict[str, None]] = {}
    for run in runs:
        for phase in run.best_losses:
            phases.setdefault(phase, {})[LOSS] = None
        for phase, values in run.values.items():
            phases.setdefault(phase, {}).update(dict.fromkeys(values))
    return phases


def header_of(path: str, paths: Sequence[str]) -> str:
    """Returns the last key of a path in a config, or the path if several paths end with this key.

    Args:
        path: The path.
        paths: All paths.
    """
    short = path.rpartition(".")[2]
    return short if sum(other.rpartition(".")[2] == short for other in paths) == 1 else path


def _keys_of_values(runs: Sequence[ListedRun]) -> Iterator[tuple[str, Key]]:
    saved = [listed.run for listed in runs]
    directions = _directions_of(saved)
    phases = phases_of(saved)
    for phase, short in short_names(phases).items():
        for name in phases[phase]:
            direction = directions.get(name)
            keys = {field: _key_of_value(phase, short, name, field, direction) for field in ValueRange._fields}
            for prefix in dict.fromkeys((short, phase)):
                yield plain(f"{prefix}/{name}"), keys[BEST_FIELDS[direction]]
                yield from ((plain(f"{prefix}/{name}/{field}"), key) for field, key in keys.items())
                if name == LOSS:
                    yield prefix, keys["lowest"]


def _directions_of(runs: Iterable[SavedRun]) -> dict[str, str | None]:
    directions: dict[str, str | None] = {LOSS: "min"}
    for run in runs:
        for name, direction in run.status.directions.items() if run.status is not None else ():
            if directions.setdefault(name, direction) != direction:
                directions[name] = None  # the runs don't agree
    return directions


def _key_of_value(phase: str, short: str, name: str, field: str, direction: str | None) -> Key:
    def field_of(listed: ListedRun, field: str) -> Any:
        if name == LOSS and field in ("lowest", "lowest_epoch"):
            lowest = lowest_loss(listed.run, phase)
            return None if lowest is None else lowest[field == "lowest_epoch"]
        found = listed.run.values.get(phase, {}).get(name)
        return None if found is None else getattr(found, field)

    def cell_of(listed: ListedRun) -> str:
        value = field_of(listed, field)
        return format_number(value) if value is None or isinstance(value, float) else str(value)

    is_extreme = field in ("lowest", "highest")
    return Key(
        plain(f"{short}/{name}/{field}"),
        lambda listed: field_of(listed, field),
        cell_of,
        is_descending=direction == "max" and not field.endswith("_epoch"),
        epoch_of=(lambda listed: field_of(listed, f"{field}_epoch")) if is_extreme else None,
    )


def _keys_of_configs(runs: Sequence[ListedRun]) -> Iterator[tuple[str, Key]]:
    paths = list({path: None for listed in runs for path in listed.config})
    for path in paths:
        key = Key(path, lambda listed, path=path: listed.config.get(path), _config_cell(path))  # type: ignore[misc]
        yield header_of(path, paths), key
        yield path, key


def _config_cell(path: str) -> Callable[[ListedRun], str]:
    return lambda listed: format_value(listed.config.get(path, NOT_GIVEN))


def _time_key(name: str, text_of: Callable[[SavedRun], str | None]) -> Key:
    def value_of(listed: ListedRun) -> float | None:
        text = text_of(listed.run)
        time = None if text is None else parse_time(text)
        return None if time is None else time.timestamp()

    def cell_of(listed: ListedRun) -> str:
        text = text_of(listed.run)
        return NOTHING if text is None else format_time(text)

    return Key(name, value_of, cell_of, parse_timestamp, is_right=False)


def _text_key(name: str, text_of: Callable[[SavedRun], str | None], parse: Callable[[str], object] = parse_text) -> Key:
    return Key(
        name,
        lambda listed: text_of(listed.run),
        lambda listed: plain(text_of(listed.run) or NOTHING),
        parse,
        is_right=False,
    )


def _count_key(name: str, count_of: Callable[[SavedRun], int | None]) -> Key:
    return Key(
        name,
        lambda listed: count_of(listed.run),
        lambda listed: NOTHING if count_of(listed.run) is None else str(count_of(listed.run)),
    )


def _duration_key(name: str, seconds_of: Callable[[SavedRun], float | None]) -> Key:
    return Key(name, lambda listed: seconds_of(listed.run), lambda listed: format_duration(seconds_of(listed.run)))


_FIXED = (
    _text_key("run", lambda run: run.tag),
    _text_key("group", lambda run: run.group),
    _text_key("state", lambda run: run.state, parse_state),
    _count_key("epochs", lambda run: run.epochs_done),
    _count_key("iterations", lambda run: run.iterations),
    _duration_key("duration", lambda run: run.seconds),
    _duration_key("epoch_time", lambda run: run.epoch_seconds),
    _time_key("started", lambda run: None if run.status is None else run.status.started_at),
    _time_key("updated", lambda run: None if run.status is None else run.status.updated_at),
)
