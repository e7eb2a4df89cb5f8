"""Explains what a hook does wrong on several processes, and how to fix it."""

import os
from collections.abc import Sequence

from torchbase.engine.plugins import is_for_main_process
from torchbase.errors import list_first
from torchbase.testing.explanations import describe_divergence
from torchbase.testing.outcomes import format_differences
from torchbase.testing.process_trial import Failure, ProcessesRun, ProcessTrial
from torchbase.testing.traces import RANDOM_STREAMS, Divergence
from torchbase.testing.trial import HookTrial

FILES_BY_MAIN = (
    "To fix, set the attribute main_process_only = True in the class of the hook, so that it is called on the main "
    "process only; or, if it has work on each process, write within `if run.processes.is_main:`."
)
DRAWS = (
    "draws from the global random streams in another way on each process, so later draws (of dropout, for example) "
    "differ. To fix, draw as often on each process; or wrap the draws in `with torchbase.isolate_rng(run.device):`, or "
    "draw from a generator that is seeded with run.randomness.derive('a name')."
)
SAME = (
    "phase.loss, phase.values, averages, gradients and weights are the same on each process; phase.outputs, "
    "phase.parts, and what run_forward, on_loss_computed and run_backward take, belong to the parts that a process "
    "computes."
)
ADVICE_ON_NUMBER = (
    f"{SAME} To fix, use run.processes.index and run.processes.count only to share out work, and combine what each "
    "process has, run.processes.gather(value), in an order that doesn't depend on their number."
)


def failure_alone(tried: ProcessTrial, failure: Failure) -> str:
    """Explains why a run on one process failed.

    Args:
        tried: The runs.
        failure: Why the run ended.

    Returns:
        Lines of a message.
    """
    return (
        f"Several processes share out the parts of a mini-batch, and with session.mini_batch_parts = {tried.parts} a "
        f"run on one process ended with {failure.message}.\nTo fix, let the hook pass the check with that key in the "
        "config first. If the session can't compute parts so small, pass a config with larger mini-batches."
    )


def failure(run: ProcessesRun) -> str:
    """Explains why a run on several processes failed.

    Args:
        run: The run, in which at least one process failed.

    Returns:
        Lines of a message.
    """
    failures = {index: one.failure for index, one in enumerate(run.records) if one.failure is not None}
    for index, one in failures.items():
        if not one.is_of_communication:  # the others only notice that this process is gone
            return _own_error(index, one)
    places = next((one.places for one in failures.values() if one.places), ())
    lines = [f"process {index} {place}" for index, place in enumerate(places)] or [
        f"process {index} {_where(record.failure)}" for index, record in enumerate(run.records)
    ]
    return (
        f"The processes are at different places of the program: {'; '.join(lines)}.\nEach process has to call the "
        "methods of run.processes as often as the others, in the same order. To fix, move the call out of `if "
        "run.processes.is_main:` and of any condition that differs between processes, and out of run_part, "
        "run_forward, on_loss_computed and run_backward, which are called for the parts that a process computes. With "
        "run.processes.tell(value), the main process decides for all. If the hook calls none of them, it changes the "
        "course of the run on some processes only: to stop, use run.request_stop(reason)."
    )


def _where(failure: Failure | None) -> str:
    if failure is None:
        return "had ended"
    where = "outside of the hook" if failure.event is None else f"in {failure.event} of the hook"
    return f"was {where}, and took too long" if failure.is_late else f"waited {where}"


def _own_error(index: int, failure: Failure) -> str:
    where = "" if failure.event is None else f" in {failure.event} of the hook"
    lines = [f"Process {index} failed{where}: {failure.message}."]
    if index > 0 and failure.event is not None:
        lines.append(
            "On other processes than the main one, run.run_directory is None, log_… events do nothing, and a process "
            f"has no outputs if it computes no part. {FILES_BY_MAIN}"
        )
    return "\n".join(lines)


def writes(run: ProcessesRun) -> str:
    """Explains which files other processes than the main one wrote.

    Args:
        run: The run on several processes.

    Returns:
        Lines of a message; empty if they wrote none.
    """
    by_main = {write.path for write in run.main.writes}
    found: dict[str, str] = {}
    for index, record in enumerate(run.records[1:], start=1):
        for path, event in record.writes:
            if event is None and record.failure is not None:  # torchbase writes the error into a file
                continue
            is_in_runs = os.path.commonpath([path, run.folder]) == run.folder
            # Elsewhere, a path of its own for each process is meant, and libraries have their caches.
            if is_in_runs or (event is not None and path in by_main):
                name = os.path.relpath(path, run.folder).partition(os.sep)[2] if is_in_runs else path
                where = "outside of its events" if event is None else f"in {event}"
                found.setdefault(name, f"{name} ({where}, process {index})")
    if not found:
        return ""
    return (
        f"It writes files on other processes than the main one: {list_first(found.values())}. All processes share "
        f"these files, so one overwrites what another wrote.\n{FILES_BY_MAIN}"
    )


def processes_that_diverge(trial: HookTrial, index: int, divergence: Divergence) -> str:
    """Explains why a process trains in another way than the main process.

    Args:
        trial: The runs of the hook.
        index: The index of the process.
        divergence: Where it diverges from the main process.

    Returns:
        Lines of a message.
    """
    begin = f"Process {index} diverges from the main process"
    return f"{describe_divergence(trial, divergence, begin)}\n{_advice(trial, divergence)}"


def _advice(trial: HookTrial, divergence: Divergence) -> str:
    parts = {part for part, _ in divergence.what}
    draws = f"\nOr it {DRAWS}" if RANDOM_STREAMS in parts else ""
    if parts <= {RANDOM_STREAMS, "loss"}:
        return f"It {DRAWS}"
    if is_for_main_process(trial.make_hook()):
        return (
            "Its attribute main_process_only is True, so the other processes don't call it, and it may only write and "
            "show. To fix, remove the attribute, do the same on each process, and write within "
            f"`if run.processes.is_main:`.{draws}"
        )
    if parts <= {RANDOM_STREAMS, "values", "averages"}:
        return (
            f"It logs other values on each process. {SAME} To fix, log what is the same on each process: combine the "
            "values that run.processes.gather(value) returns, or log what the main process has, "
            f"run.processes.tell(value).{draws}"
        )
    return (
        f"It changes the training in another way on each process. {SAME} To fix, decide on what is the same on each "
        "process; or decide on the main process, run.processes.tell(decision); or combine the values of all, "
        f"run.processes.gather(value).{draws}"
    )


def processes_that_end_differently(index: int, differences: Sequence[tuple[str, str]]) -> str:
    """Explains why a process ends with other results than the main process, although both trained the same.

    Args:
        index: The index of the process.
        differences: The part and name of each difference.

    Returns:
        Lines of a message.
    """
    return (
        f"Process {index} ends differently from the main process; the differences are "
        f"{format_differences(differences)}.\nA checkpoint saves the state of the main process, and all processes "
        f"resume with it. {SAME} To fix, compute the state from what is the same on each process, or from "
        "run.processes.gather(value) or run.processes.tell(value); if only the main process needs the hook, set "
        "main_process_only = True."
    )


def number_that_changes_training(tried: ProcessTrial, divergence: Divergence) -> str:
    """Explains why a run on several processes trains in another way than one on a single process.

    Args:
        tried: The runs.
        divergence: Where the runs diverge.

    Returns:
        Lines of a message.
    """
    begin = f"The result depends on the number of processes: a run on {tried.count} diverges from one on 1"
    is_drawn = {part for part, _ in divergence.what} <= {RANDOM_STREAMS, "loss"} and divergence.is_in(RANDOM_STREAMS)
    advice = f"It {DRAWS}" if is_drawn else ADVICE_ON_NUMBER
    return f"{describe_divergence(tried.trial, divergence, begin)}\n{advice}"


def number_that_changes_results(tried: ProcessTrial, differences: Sequence[tuple[str, str]]) -> str:
    """Explains why a run on several processes has other results than one on a single process.

    Args:
        tried: The runs.
        differences: The part and name of each difference.

    Returns:
        Lines of a message.
    """
    return (
        f"The result depends on the number of processes: a run on {tried.count} ends differently from one on "
        f"1; the differences are {format_differences(differences)}.\n{ADVICE_ON_NUMBER}"
    )
