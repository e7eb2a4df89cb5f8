"""What ``torchbase replay`` finds out, and says."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from torchbase.command_line.replay_programs import Program, Replayed, Replays, Start, oldest_checkpoint
from torchbase.command_line.run_records import differing_paths, flatten
from torchbase.command_line.sameness import HOW_TO_RECORD, describe_difference, name_of
from torchbase.command_line.terminal import format_value, plain
from torchbase.errors import RunDirectoryError
from torchbase.files.durable import os_errors_explained, read_json
from torchbase.files.json_values import NOT_GIVEN
from torchbase.run_directory.config_snapshot import snapshots
from torchbase.run_directory.fingerprint_differences import Sameness, compare_fingerprints
from torchbase.run_directory.fingerprints import Place, StateHashes, read_fingerprints
from torchbase.run_directory.replays import TRACE_FILE
from torchbase.run_directory.traces import at_common_iterations, describe_first_difference

# They differ between any two starts of a program, and affect no bit.
_OF_EVERY_START = frozenset({"time", "command_line", "program", "config_changes", "iterations_before"})


class Investigation:
    """Replays a run, and narrows down where its bits part from the recorded ones."""

    def __init__(
        self, run_dir: Path, last: int | None, from_start: bool, traced: tuple[int, int] | None = None
    ) -> None:
        """Chooses which iterations are replayed.

        Args:
            run_dir: The run directory.
            last: The last iteration; None for that of the last fingerprint.
            from_start: Whether to begin at the first iteration, even if there is a checkpoint.
            traced: The first and last iteration of a trace to write. Then nothing is narrowed down.

        Raises:
            RunDirectoryError: If the run has no fingerprints of iterations.
        """
        self._run_dir, self._traced = run_dir, traced
        self._recorded = [one for one in read_fingerprints(run_dir)[0] if last is None or one.iteration <= last]
        if not any(one.iteration for one in self._recorded):
            until = "" if last is None else f" until iteration {last:,}"
            raise RunDirectoryError(
                f"{run_dir} has no fingerprints of iterations{until}, so there is nothing to compare with. To fix, "
                f"replay a run with fingerprints; {HOW_TO_RECORD}."
            )
        self._until: Place = _end_of(self._recorded) if traced is None else (traced[1], "iteration")
        before = self._until[0] if traced is None else traced[0]
        self._checkpoint = None if from_start else oldest_checkpoint(run_dir, before)

    def describe_plan(self, program: Program) -> str:
        """Says what will be replayed.

        Args:
            program: The program.
        """
        begin = "its start" if self._checkpoint is None else self._checkpoint.name
        return plain(f"{self._run_dir}: replaying it from {begin} until {name_of(self._until)}: {program}")

    def report(self, program: Program, start: Start) -> tuple[list[str], bool]:
        """Replays the run.

        Args:
            program: The program of the run.
            start: Starts the program.

        Returns:
            What was found, line by line, and whether the bits are those of the run.

        Raises:
            RunDirectoryError: If the program doesn't train the run.
        """
        with tempfile.TemporaryDirectory(prefix="torchbase-replay-") as folder:
            replays = Replays(self._run_dir, program, start, Path(folder))
            if self._traced is not None:
                return list(_write_trace(self._run_dir, replays.run(self._checkpoint, self._until, self._traced))), True
            first = replays.run(self._checkpoint, self._until)
            found = self._compare(first)
            if found.first_different is None:
                return [_describe_reproduced(found)], True
            sentence, *of_parts = describe_difference(found)
            different = [f"not reproduced: {sentence}", *of_parts]
            return [*different, *self._narrow(replays, found, first)], False

    def _compare(self, replayed: Replayed) -> Sameness:
        by_program = compare_fingerprints(self._recorded, replayed.by_program)
        # The program may have a fingerprint at other intervals now.
        is_enough = any(iteration > replayed.each[0].iteration for iteration, _ in by_program.common)
        found = by_program if is_enough else compare_fingerprints(self._recorded, replayed.each)
        if not found.common:
            raise RunDirectoryError(
                f"{self._run_dir} has no fingerprint after {name_of(replayed.each[0].place)}, where the replay began. "
                "To fix, pass --from-start."
            )
        return found

    def _narrow(self, replays: Replays, found: Sameness, first: Replayed) -> Iterator[str]:
        window, place = _iterations_between(found), found.first_different
        until = place if place is not None and place[1] == "iteration" else self._until
        second = replays.run(self._checkpoint, until, window)
        repeated = compare_fingerprints(first.each, second.each)
        if repeated.first_different is None:
            yield "two replays here have the same bits, so the program repeats itself here"
            yield from self._describe_surroundings(second)
            yield from _write_trace(self._run_dir, second)
            return
        yield "two replays here differ from each other, so the program doesn't repeat itself:"
        yield from describe_difference(repeated)
        yield self._find_cause(replays, repeated.first_different, second)

    def _find_cause(self, replays: Replays, place: Place, replayed: Replayed) -> str:
        """Says what makes two replays differ, at a place where two have differed."""
        iteration, after = place
        if after == "start":
            return "they differ before the first iteration: in init_network, in load_pretrained, or in what these read"
        if after != "iteration":
            return f"they agree after iteration {iteration:,} itself: a validation or a hook of on_epoch_end changes it"
        if iteration not in {step.iteration for step in replayed.trace}:
            replayed = replays.run(self._checkpoint, place, (iteration, iteration))
        other = replays.run(self._checkpoint, place, (iteration, iteration))
        cause = describe_first_difference(*at_common_iterations(replayed.trace, other.trace))
        if cause is None:
            return "two more replays agree in this iteration, so it happens only sometimes. To fix, replay once more."
        return f"the first difference between two replays: {cause}"

    def _describe_surroundings(self, replayed: Replayed) -> Iterator[str]:
        environments = [_newest_environment(self._run_dir), _newest_environment(replayed.copy)]
        paths = differing_paths(environments)
        unknown = (
            "the recorded packages, devices and code are those of here, so something else differs, such as a file that "
            "the program reads, or code that isn't in its commit"
        )
        yield "what differs from the recorded run:" if paths else unknown
        for path in paths:
            recorded, here = (format_value(one.get(path, NOT_GIVEN)) for one in environments)
            yield plain(f"  {path}: {recorded} -> {here}")


def _write_trace(run_dir: Path, replayed: Replayed) -> Iterator[str]:
    if not replayed.trace:
        yield "no iteration was traced"
        return
    first, last = replayed.trace[0].iteration, replayed.trace[-1].iteration
    name = f"trace_{run_dir.name}_{first}-{last}"
    numbered = (Path(f"{name}{'' if number == 1 else f'_{number}'}.jsonl") for number in count(1))
    target = next(path for path in numbered if not path.exists()).absolute()  # an earlier trace may be of other code
    with os_errors_explained("write", target):
        shutil.copyfile(replayed.copy.parent / "records" / TRACE_FILE, target)
    yield f"written: {target}, with what each hook changes in the iterations {first:,} to {last:,}"
    yield (
        "to find where the bits part, write such a file on the other machine or with the other code, "
        f"by torchbase replay RUN --trace {first} {last}, and compare both: torchbase compare FILE FILE"
    )


def _end_of(recorded: Sequence[StateHashes]) -> Place:
    """Returns the last place that a replay can reach: the end of a run that was stopped isn't one."""
    places = [one.place for one in recorded]
    return next((place for place in reversed(places) if place[1] in ("iteration", "epoch")), places[-1])


def _describe_reproduced(found: Sameness) -> str:
    places = [place for place in found.common if place[0]]
    fingerprints = f"{len(places):,} fingerprint{'s' if len(places) > 1 else ''}"
    return f"reproduced: the recorded {fingerprints}, until {name_of(places[-1])}, have the same bits here"


def _iterations_between(found: Sameness) -> tuple[int, int]:
    """Returns the first and last iteration in which the first difference may have come about."""
    last_same = 0 if found.last_same is None else found.last_same[0]
    first_different = 0 if found.first_different is None else found.first_different[0]
    return min(last_same + 1, max(1, first_different)), max(1, first_different)


def _newest_environment(folder: Path) -> Mapping[str, Any]:
    files = snapshots(folder, "environment")
    environment = read_json(files[-1]) if files else {}
    return flatten({name: value for name, value in environment.items() if name not in _OF_EVERY_START})
