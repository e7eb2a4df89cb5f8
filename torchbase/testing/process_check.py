"""The check of a hook on several processes."""

from torchbase.engine.plugins import is_for_main_process
from torchbase.errors import HookCheckError
from torchbase.testing import process_explanations as explain
from torchbase.testing.comparisons import torchbase_files
from torchbase.testing.forked import reason_against_forking
from torchbase.testing.outcomes import TRAINED, find_differences, format_differences
from torchbase.testing.process_trial import ProcessTrial
from torchbase.testing.traces import Trace, find_all_differences, find_divergence
from torchbase.testing.trial import HookTrial

MAY_VARY = ("values", "averages")  # a measured time, for example
STATE = "the hook's state"


def check_processes(trial: HookTrial, processes: int = 2) -> str:
    """Checks that a run on several processes ends bit for bit like one on a single process.

    The processes are forked, compute on the CPU, and share out the same parts of each mini-batch. The check finds files
    that other processes than the main one write; what differs between the processes, or changes with their number; and
    communication in which not all of them take part.

    Args:
        trial: The runs of the hook.
        processes: The number of processes, at least 2.

    Returns:
        What was compared, and what isn't.

    Raises:
        HookCheckError: If the check fails, or if processes can't be forked here.
    """
    if processes < 2:
        raise HookCheckError(f"check_processes expects a number of processes from 2 on, but got {processes!r}.")
    reason = reason_against_forking()
    if reason is not None:
        raise HookCheckError(f"The hook can't be tried on several processes, since {reason}. To fix, use Linux.")
    files = torchbase_files(trial)  # before the forks, so that what this run imports is there in each process
    tried = ProcessTrial(trial, processes)
    _check_alone(tried)
    comparison = _Comparison(tried, files)
    faults = comparison.find_faults()
    if faults:
        raise HookCheckError("\n".join(faults))
    return (
        f"{processes} processes end bit for bit like one process with the same {tried.parts} parts of each mini-batch, "
        f"and only the main process writes files{comparison.describe_not_compared()}"
    )


def _check_alone(tried: ProcessTrial) -> None:
    for run in (tried.alone, tried.again):
        if run.main.failure is not None:
            raise HookCheckError(explain.failure_alone(tried, run.main.failure))
    varying = find_all_differences(tried.alone.main.trace, tried.again.main.trace)
    if any(part not in MAY_VARY for part, _ in varying):
        raise HookCheckError(
            "Two runs on one process differ, so they can't be compared with one on several processes. To fix, let the "
            f"hook pass check_repetition first. The differences are {format_differences(sorted(varying))}."
        )


class _Comparison:
    """What differs between the processes of a run, and between that run and one on a single process."""

    def __init__(self, tried: ProcessTrial, torchbase_files: set[tuple[str, str]]) -> None:
        alone, again = tried.alone, tried.again
        self._tried, self._run = tried, tried.together
        self._files = torchbase_files
        self._varying = find_all_differences(alone.main.trace, again.main.trace)
        found = find_differences(alone.outcome, again.outcome)
        self._unrepeatable = {one for one in found if one[0] not in TRAINED} - torchbase_files

    def find_faults(self) -> list[str]:
        """Explains each fault; one that may be the cause of others comes first."""
        failure = explain.failure(self._run) if self._run.has_failed else ""
        writes, difference = explain.writes(self._run), self._explain_processes()
        # What fails, or differs between the processes, also differs from the single process.
        number = "" if failure or difference else self._explain_number(with_files=not writes)
        return [fault for fault in (failure, writes, difference, number) if fault]

    def describe_not_compared(self) -> str:
        """Lists what differs even between two runs on one process."""
        found = format_differences(sorted(self._unrepeatable))
        return f". Not compared, since two runs on one process differ in it: {found}" if found else ""

    def _explain_processes(self) -> str:
        trial = self._tried.trial
        for index, record in enumerate(self._run.records[1:], start=1):
            divergence = find_divergence(self._run.main.trace, record.trace, self._varying)
            if divergence is not None:
                return explain.processes_that_diverge(trial, index, divergence)
        return "" if self._run.has_failed else self._explain_ends()

    def _explain_ends(self) -> str:
        for index, record in enumerate(self._run.records[1:], start=1):
            found = set(find_differences(self._run.main.outcome, record.outcome)) - self._unrepeatable
            if is_for_main_process(self._tried.trial.make_hook()):  # elsewhere it isn't called
                found = {one for one in found if one[0] != STATE}
            if found:
                return explain.processes_that_end_differently(index, sorted(found))
        return ""

    def _explain_number(self, with_files: bool) -> str:
        points = {point: sums for record in reversed(self._run.records) for point, sums in record.trace.points.items()}
        divergence = find_divergence(self._tried.alone.main.trace, Trace(points), self._varying)
        if divergence is not None:
            return explain.number_that_changes_training(self._tried, divergence)
        found = set(find_differences(self._tried.alone.outcome, self._run.outcome)) - self._unrepeatable - self._files
        found = {one for one in found if with_files or one[0] != "files"}
        return explain.number_that_changes_results(self._tried, sorted(found)) if found else ""
