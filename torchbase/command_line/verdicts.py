"""Which of several runs is better, by what, and whether their seeds alone can explain the difference."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchbase.command_line.run_details import Details
from torchbase.command_line.run_records import SavedRun
from torchbase.command_line.seed_groups import SeedGroups, Spread, spread_of
from torchbase.command_line.terminal import format_number, plain, short_names
from torchbase.run_directory.names import LOSS, VALIDATION_PREFIX

if TYPE_CHECKING:
    from torchbase.metrics.directions import Mode

DEVIATIONS_OF_CHANCE = 2.0
TITLE = "which is better, by the best epochs on the sets that vote"
TITLE_WITHOUT_VOTES = "which is better, by the best epochs on all validation sets, since none votes"


@dataclass(frozen=True)
class Verdict:
    """What is said about one value.

    Attributes:
        name: The name of the set and of the value.
        lines: The sentences, one per line.
    """

    name: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Verdicts:
    """What is said about all values.

    Attributes:
        title: What is compared.
        verdicts: A verdict for each value whose direction is known, and that at least two runs have.
        damages: What can't be read, and why.
    """

    title: str
    verdicts: tuple[Verdict, ...]
    damages: tuple[str, ...]


@dataclass(frozen=True)
class _Candidate:
    label: str
    run: SavedRun
    value: float
    spread: Spread | None


def judge(runs: Sequence[SavedRun], details: Sequence[Details], labels: Sequence[str]) -> Verdicts:
    """Compares runs by the values of the networks that they saved as the best.

    Args:
        runs: The runs.
        details: The details of each run.
        labels: A short name for each run.

    Returns:
        The verdicts. The values are those of the validation sets that vote, in the order of the first run.
    """
    averages = [one.averages_of(one.best_epoch) for one in details]
    voters = {phase for one in details for phase in _voters_of(one)}
    phases = list(
        dict.fromkeys(phase for of_run in averages for phase in of_run if phase.startswith(VALIDATION_PREFIX))
    )
    chosen = [phase for phase in phases if phase in voters] or phases
    directions = _directions_of(runs)
    short = short_names(phases)
    seeds = SeedGroups()
    verdicts = []
    for phase in chosen:
        names = dict.fromkeys(name for of_run in averages for name in of_run.get(phase, {}) if name in directions)
        for name in sorted(names, key=lambda name: name != LOSS):
            candidates = [
                _Candidate(label, run, of_run[phase][name], spread_of(seeds.values_of(run, phase, name)))
                for label, run, of_run in zip(labels, runs, averages, strict=True)
                if name in of_run.get(phase, {})
            ]
            if len(candidates) > 1:
                verdicts.append(Verdict(plain(f"{short[phase]} {name}"), tuple(_lines(candidates, directions[name]))))
    title = TITLE if voters else TITLE_WITHOUT_VOTES
    return Verdicts(title, tuple(verdicts), tuple(dict.fromkeys(seeds.damages)))


def _voters_of(details: Details) -> Iterator[str]:
    for decision in details.decisions:
        votes = decision.get("votes")
        for vote in votes if isinstance(votes, list) else ():
            if isinstance(vote, Mapping) and isinstance(vote.get("phase"), str):
                yield vote["phase"]


def _directions_of(runs: Sequence[SavedRun]) -> "dict[str, Mode]":
    found: dict[str, set[Mode]] = {}
    for run in runs:
        for name, direction in run.status.directions.items() if run.status is not None else ():
            found.setdefault(name, set()).add(direction)
    agreed: dict[str, Mode] = {name: next(iter(ones)) for name, ones in found.items() if len(ones) == 1}
    return {**agreed, LOSS: "min"}


def _lines(candidates: Sequence[_Candidate], direction: "Mode") -> Iterator[str]:
    sign = 1 if direction == "min" else -1
    best, second, *others = sorted(
        candidates, key=lambda one: (math.isnan(one.value), 0.0 if math.isnan(one.value) else sign * one.value)
    )
    yield _first_line(best, second, "<" if direction == "min" else ">", "best" if others else "better")
    labels: dict[Spread, list[str]] = {}
    for one in candidates:
        if one.spread is not None:  # the runs that differ only in their seed have the same
            labels.setdefault(one.spread, []).append(one.label)
    for spread, same in labels.items():
        yield f"{', '.join(same)}: {_describe(spread)}"


def _describe(spread: Spread) -> str:
    text = f"{format_number(spread.mean)} ± {format_number(spread.deviation)} over {spread.count} seeds"
    return text if not spread.others else f"{text}; {spread.others} more have no finite value"


def _first_line(best: _Candidate, second: _Candidate, sign: str, word: str) -> str:
    numbers = format_number(best.value), format_number(second.value)
    if best.value == second.value or math.isnan(best.value):
        return f"{best.label} and {second.label} are equal: {numbers[0]}"
    if math.isnan(second.value):
        return f"{best.label} is {word}: {numbers[0]}, and {second.label} has {numbers[1]}"
    text = f"{best.label} is {word}: {numbers[0]} {sign} {numbers[1]} of {second.label}"
    deviations = [one.spread.deviation for one in (best, second) if one.spread is not None]
    if not deviations:
        return text
    # A difference of two runs varies by both. If the spread of one isn't known, that of the other stands for it.
    of_difference = math.hypot(*(deviations if len(deviations) == 2 else deviations * 2))
    bound = DEVIATIONS_OF_CHANCE * of_difference
    place = "within" if abs(best.value - second.value) <= bound else "beyond"
    return f"{text}, {place} the spread over seeds (± {format_number(bound)})"
