"""Whether runs have the same bits, by their fingerprints, in sentences."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torchbase.command_line.run_records import SavedRun, attempt
from torchbase.command_line.terminal import plain
from torchbase.run_directory.fingerprint_differences import (
    Sameness,
    compare_fingerprints,
    part_of,
)
from torchbase.run_directory.fingerprints import FINGERPRINTS_FILE, PARTS, Place, StateHashes, read_fingerprints
from torchbase.run_directory.hashed_parts import describe_names
from torchbase.run_directory.traces import at_common_iterations, describe_first_difference, read_trace

HOW_TO_RECORD = 'torchbase.hooks.Fingerprint("100it") records them'
_NAMES = {"network": "the network", "optimizer": "the optimizer", "random": "the random streams"}
_NAMES_LISTED = 3


@dataclass(frozen=True)
class SamenessOfRuns:
    """What is said about the bits of runs.

    Attributes:
        sentences: How each run compares with the first one.
        damages: What can't be read, and why.
    """

    sentences: tuple[str, ...]
    damages: tuple[str, ...]


def describe_sameness(runs: Sequence[SavedRun], labels: Sequence[str]) -> SamenessOfRuns:
    """Compares the bits of each run with those of the first.

    Args:
        runs: The runs, at least one.
        labels: A short name for each of them.

    Returns:
        What is said.
    """
    damages: list[str] = []
    of_runs = [_read(run, damages) for run in runs]
    if not any(of_runs):
        missing = f"bits: not compared, since no run has fingerprints; {HOW_TO_RECORD}"
        return SamenessOfRuns((missing,) if len(runs) > 1 else (), tuple(damages))
    sentences = []
    for label, other in zip(labels[1:], of_runs[1:], strict=True):
        names = (labels[0], label)
        lacking = [name for name, one in zip(names, (of_runs[0], other), strict=True) if not one]
        if lacking:
            verb = "have" if len(lacking) > 1 else "has"
            sentences.append(
                f"bits of {' and '.join(names)}: not compared, since {' and '.join(lacking)} {verb} no fingerprints; "
                f"{HOW_TO_RECORD}"
            )
        else:
            sentences += _describe(names, of_runs[0], other)
    return SamenessOfRuns(tuple(map(plain, sentences)), tuple(damages))


def describe_difference(found: Sameness) -> list[str]:
    """Describes where two runs differ first.

    Args:
        found: A comparison that has found a difference.

    Returns:
        The sentence, and what is known of each part of the state.
    """
    place = found.first_different
    if place is None:
        return []
    names = describe_names(found.different[place])
    if found.last_same is None:
        sentence = f"different from {name_of(place)} on: {names}"
    else:
        sentence = f"the same until {name_of(found.last_same)}, different at {name_of(place)}: {names}"
    return [sentence, *_parts_that_differ(found)]


def compare_traces(files: Sequence[Path]) -> list[str]:
    """Says where traces part.

    Args:
        files: The files that ``torchbase replay`` wrote, at least two.

    Returns:
        How each compares with the first one.

    Raises:
        RunDirectoryError: If one isn't a trace.
    """
    first, *others = [read_trace(file) for file in files]
    lines = []
    for file, other in zip(files[1:], others, strict=True):
        steps, other_steps = at_common_iterations(first, other)
        begin = f"{files[0]} and {file}: "
        if not steps:
            lines.append(f"{begin}not compared, since they have no iteration in common")
            continue
        last = f"the same until iteration {steps[-1].iteration:,} ({len(steps):,} steps)"
        lines.append(begin + (describe_first_difference(steps, other_steps) or last))
    return lines


def name_of(place: Place) -> str:
    """Returns the name of a place in a run, such as ``iteration 1,200``.

    Args:
        place: The place.
    """
    iteration, after = place
    if after == "start":
        return f"the start (iteration {iteration:,})"
    more = {"epoch": ", after its epoch", "run": ", the end"}.get(after, "")
    return f"iteration {iteration:,}{more}"


def _describe(names: tuple[str, str], first: Sequence[StateHashes], second: Sequence[StateHashes]) -> list[str]:
    begin = f"bits of {names[0]} and {names[1]}: "
    found = compare_fingerprints(first, second)
    if not found.common:
        ranges = ", and ".join(f"{name} {_range_of(one)}" for name, one in zip(names, (first, second), strict=True))
        return [f"{begin}not compared, since no iteration has a fingerprint in both: {ranges}"]
    sentences = describe_difference(found) or [_describe_same(names, found, first[-1].place, second[-1].place)]
    sentences[0] = begin + sentences[0]
    for name, only in zip(names, (found.only_first, found.only_second), strict=True):
        if only:
            sentences.append(f"  only in {name}: {describe_names(only)}")
    return sentences


def _describe_same(names: tuple[str, str], found: Sameness, *ends: Place) -> str:
    count = len(found.common)
    last = found.common[-1]
    if ends[0] == ends[1] == last:
        return f"the same until {name_of(last)} ({count:,} fingerprint{'s' if count > 1 else ''})"
    where = f"at all {count:,} fingerprints" if count > 1 else "at the only fingerprint"
    further = " and ".join(f"{name} has some until {name_of(end)}" for name, end in zip(names, ends, strict=True))
    return f"the same {where} that both have, until {name_of(last)}; {further}"


def _parts_that_differ(found: Sameness) -> list[str]:
    first = found.first_of_parts()
    lines = []
    for part in (one for one in PARTS if one in found.parts):
        if part not in first:
            lines.append(f"  {_NAMES[part]}: never different")
            continue
        place = first[part]
        names = [name for name in found.different[place] if part_of(name) == part]
        listed = ", ".join(name.removeprefix(f"{part}.") for name in names[:_NAMES_LISTED])
        more = f" and {len(names) - _NAMES_LISTED:,} more" if len(names) > _NAMES_LISTED else ""
        lines.append(f"  {_NAMES[part]}: first different at {name_of(place)} ({listed}{more})")
    if found.common[-1] not in found.different:
        lines.append(f"  the same again at the last fingerprint that both have, {name_of(found.common[-1])}")
    return lines


def _range_of(fingerprints: Sequence[StateHashes]) -> str:
    return f"has {len(fingerprints):,} from {name_of(fingerprints[0].place)} to {name_of(fingerprints[-1].place)}"


def _read(run: SavedRun, damages: list[str]) -> list[StateHashes]:
    found = attempt(lambda: read_fingerprints(run.path), damages)
    if found is None:
        return []
    fingerprints, damaged = found
    if damaged:
        damages.append(f"{run.path / FINGERPRINTS_FILE} is damaged: {damaged} of its lines can't be read")
    return fingerprints
