"""The runs of a group that differ only in their seed, and how much their values spread."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchbase.command_line.run_details import Details, read_details
from torchbase.command_line.run_listing import read_runs
from torchbase.command_line.run_records import SavedRun, attempt, flatten

SEED_PATH = "session.seed"
ENDED = ("finished", "stopped")


@dataclass(frozen=True)
class Spread:
    """The values of runs that differ only in their seed.

    Attributes:
        mean: The mean of the finite values.
        deviation: Their standard deviation, as an estimate from a sample (n - 1).
        count: The number of finite values, at least two.
        others: The number of other values: NaN or infinite.
    """

    mean: float
    deviation: float
    count: int
    others: int


class SeedGroups:
    """Finds the runs that differ only in their seed from a given one.

    They are in the same folder, have the same group and, except for the seed, the same config, and have finished or
    stopped. Of several runs with one seed, the newest counts, since they say nothing of the spread.

    Attributes:
        damages: What can't be read, and why.
    """

    def __init__(self) -> None:
        self.damages: list[str] = []
        self._runs: dict[Path, Sequence[SavedRun]] = {}
        self._others: dict[Path, Sequence[SavedRun]] = {}
        self._details: dict[Path, Details] = {}

    def values_of(self, run: SavedRun, phase: str, name: str) -> list[float]:
        """Returns the values of the best epochs of these runs, and of the given one.

        Args:
            run: The given run.
            phase: The name of a phase.
            name: The name of an average.
        """
        found = []
        for other in self._others_of(run):
            if other.path not in self._details:
                self._details[other.path] = read_details(other.path)
            details = self._details[other.path]
            value = details.averages_of(details.best_epoch).get(phase, {}).get(name)
            found += [] if value is None else [value]
        return found

    def _others_of(self, run: SavedRun) -> Sequence[SavedRun]:
        if run.group is None:
            return ()
        if run.path not in self._others:
            parent = run.path.absolute().parent
            if parent not in self._runs:
                listing = attempt(lambda: read_runs(parent), self.damages)
                self._runs[parent] = () if listing is None else listing.runs
            config = _without_seed(run)
            same_group = (one for one in self._runs[parent] if one.group == run.group and one.state in ENDED)
            alike = [one for one in same_group if _without_seed(one) == config]
            by_seed = {_seed_of(one): one for one in alike}
            if any(one.path.name == run.path.name for one in alike):
                by_seed[_seed_of(run)] = run
            self._others[run.path] = list(by_seed.values())
        return self._others[run.path]


def spread_of(values: Sequence[float]) -> Spread | None:
    """Returns the spread of values; None for less than two finite values.

    Args:
        values: The values.
    """
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < 2:
        return None
    return Spread(statistics.fmean(finite), statistics.stdev(finite), len(finite), len(values) - len(finite))


def _without_seed(run: SavedRun) -> Mapping[str, Any]:
    return {path: repr(value) for path, value in flatten(run.config).items() if path != SEED_PATH}


def _seed_of(run: SavedRun) -> object:
    """Returns the seed of a run, or what is unique if the run has drawn it."""
    seed = flatten(run.config).get(SEED_PATH)
    return run.path.name if seed is None else seed
