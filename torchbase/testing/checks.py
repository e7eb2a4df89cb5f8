"""The checks of a hook, one by one and all together."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import ModuleType
from typing import Any

from torchbase.engine import hook_checks
from torchbase.errors import HookCheckError, HookError
from torchbase.files.bitwise import different_values
from torchbase.session.base import TrainingBaseSession
from torchbase.testing.comparisons import (
    choose_stops,
    compare_with_uninterrupted,
    find_unrepeatable,
    torchbase_files,
    training_iteration,
)
from torchbase.testing.explanations import (
    explain_interference,
    explain_no_repetition,
    explain_wrong_resume,
    implemented_events,
)
from torchbase.testing.forked import reason_against_forking
from torchbase.testing.outcomes import TRAINED, find_differences, format_differences, select_names
from torchbase.testing.overhead import measure_overhead
from torchbase.testing.process_check import check_processes
from torchbase.testing.report import CheckResult, HookReport
from torchbase.testing.trial import HookTrial

PROCESSES = "processes"
CHECKPOINT_EVERY_N_ITERATIONS = 3


def check_hook(
    make_hook: Callable[[], object],
    *,
    observes: bool,
    session_class: type[TrainingBaseSession] | None = None,
    config: Mapping[str, Any] | None = None,
    processes: int = 1,
) -> HookReport:
    """Checks that a hook can be registered, saves its state, is resumed exactly and, if it observes, changes nothing.

    With several processes, it also checks that these end like one.

    Args:
        make_hook: Creates the hook: a class, a function, or a ``functools.partial``. It is called without arguments,
            once for each run. If it can be imported, the hook is also tried in a process that is killed.
        observes: Whether the hook only observes. A run with such a hook has to end bit for bit like a run without it.
            A hook that changes the training on purpose has to change it in the same way each time.
        session_class: The class of the session in which the hook is tried, with the constructor of
            `TrainingBaseSession`; by default a tiny session that needs no data.
        config: The config of the session. Use few epochs: there are about thirty runs.
        processes: The number of processes on which the hook is tried as well, see `check_processes`; 1 leaves that out.
            Where processes can't be forked, the report says so.

    Returns:
        The results of the checks, and what the hook costs; ``print`` shows them.

    Raises:
        HookCheckError: If a check fails. The message is the whole report, with the differences and how to fix them.
    """
    trial = HookTrial(make_hook, session_class, config)
    neutrality = ("observes", check_neutrality) if observes else ("repeats", check_repetition)
    checks = [("state", check_state), neutrality, ("stopped", check_stops), ("killed", check_kill)]
    results = [_result_of("registers", check_registration, trial)]
    if results[0].passed:  # else the other checks would fail for the same reason
        results += [_result_of(name, check, trial) for name, check in checks]
        results += [_result_on_processes(trial, processes)] if processes != 1 else []
    is_good = all(result.passed for result in results)
    name = trial.name if results[0].passed else getattr(make_hook, "__name__", repr(make_hook))
    report = HookReport(
        name, trial.session_class.__name__, tuple(results), measure_overhead(trial) if is_good else None
    )
    if not is_good:
        raise HookCheckError(str(report))
    return report


def check_registration(trial: HookTrial) -> str:
    """Checks that the hook can be registered, and that a run with it ends without an error.

    Args:
        trial: The runs of the hook.

    Returns:
        The result as text.

    Raises:
        HookCheckError: If the check fails.
    """
    hook = trial.make_hook()
    try:
        hook_checks.check_hook(hook)
        name = hook_checks.name_of(hook)
    except HookError as error:
        raise HookCheckError(f"It can't be registered: {error}") from error
    if hook is trial.make_hook() and not isinstance(hook, ModuleType):
        raise HookCheckError(
            "make_hook returned the same hook twice, so its state of one run would affect the next run. To fix, pass "
            "something that creates a new hook: the class, or functools.partial(TheClass, its, arguments)."
        )
    if not any((fired.event, fired.phase) == ("on_iteration_end", "training") for fired in trial.unbroken.events):
        raise HookCheckError(
            "In a run with the hook, no training iteration ended, so there is nothing to check. To fix, check whether "
            "the hook stops the run at once, or implements run_phase without calling on_iteration_end."
        )
    return f"as '{name}'; it implements {', '.join(implemented_events(hook))}"


def check_state(trial: HookTrial) -> str:
    """Checks that a checkpoint saves what ``state_dict`` returns, and that ``load_state_dict`` restores it.

    Args:
        trial: The runs of the hook.

    Returns:
        The result as text.

    Raises:
        HookCheckError: If a value isn't restored, or if one of the two methods is missing.
    """
    hook = trial.make_hook()
    has = {name: callable(getattr(hook, name, None)) for name in ("state_dict", "load_state_dict")}
    if not any(has.values()):
        return "it has no state"
    if not all(has.values()):
        existing, missing = sorted(has, key=lambda name: not has[name])
        raise HookCheckError(f"It has {existing} but no {missing}, so its state isn't saved. To fix, add {missing}.")
    iteration = training_iteration(trial, 0.3)
    run = trial.stopped_at("training", iteration)
    saved, restored = run.saved_state or {}, run.restored_state or {}
    names = different_values(saved, restored)
    if names:
        raise HookCheckError(
            f"A run that was stopped after training iteration {iteration} resumed with another state than the saved "
            f"one; the differences are {', '.join(names)}. To fix, let load_state_dict(state) restore everything that "
            "state_dict() returns. It is called before the hook's own on_run_start, which must not overwrite it."
        )
    return f"a checkpoint saved and restored {', '.join(saved) or 'nothing'}"


def check_neutrality(trial: HookTrial) -> str:
    """Checks that a run with the hook ends bit for bit like a run without it.

    Args:
        trial: The runs of the hook.

    Returns:
        The result as text.

    Raises:
        HookCheckError: If the runs differ in the network, the optimizer, the best network, the progress, or in
            averages or scalars that a run without the hook has.
    """
    without = trial.without.outcome
    ignored = find_unrepeatable(trial) | torchbase_files(trial)
    found = find_differences(without, select_names(trial.unbroken.outcome, without))
    differences = [difference for difference in found if difference not in ignored]
    if differences:
        raise HookCheckError(
            f"It should only observe, but a run with it ends differently from a run without it.\n"
            f"{explain_interference(trial)}\nThe differences are {format_differences(differences)}."
        )
    return "a run with it ends bit for bit like a run without it: weights, optimizer, best network, averages and curves"


def check_repetition(trial: HookTrial) -> str:
    """Checks that two runs with the hook train the same network, bit for bit.

    Args:
        trial: The runs of the hook.

    Returns:
        The result as text.

    Raises:
        HookCheckError: If they don't.
    """
    differences = find_differences(trial.unbroken.outcome, trial.again.outcome, TRAINED)
    if differences:
        raise HookCheckError(
            f"Two runs that should be the same ended differently.\n{explain_no_repetition(trial)}\n"
            f"The differences are {format_differences(differences)}."
        )
    return "two runs end bit for bit the same: weights, optimizer and best network"


def check_stops(trial: HookTrial) -> str:
    """Checks that runs which are stopped and resumed end like an uninterrupted run, and call the hook as often.

    Runs are stopped at both ends and in the middle of training phases, and within and at the end of validations.

    Args:
        trial: The runs of the hook.

    Returns:
        Where runs were stopped, and what isn't compared.

    Raises:
        HookCheckError: If a run ends differently.
    """
    stops = choose_stops(trial)
    failed = {stop: found for stop in stops if (found := compare_with_uninterrupted(trial, trial.stopped_at(*stop)))}
    if failed:
        stop, differences = next(iter(failed.items()))
        raise HookCheckError(
            f"{len(failed)} of {len(stops)} runs that were stopped and resumed ended differently from the "
            f"uninterrupted run; stopped after {_iterations(failed)}.\n"
            f"{explain_wrong_resume(trial, *stop, differences)}\n"
            f"In the first of these runs, the differences are {format_differences(differences)}."
        )
    return (
        f"{len(stops)} runs ended like the uninterrupted run; stopped after {_iterations(stops)}{_not_compared(trial)}"
    )


def check_kill(trial: HookTrial) -> str:
    """Checks that a run which is killed by SIGKILL and resumed ends like an uninterrupted run.

    Args:
        trial: The runs of the hook.

    Returns:
        Where the run was killed.

    Raises:
        HookCheckError: If it ends differently.
    """
    iteration = training_iteration(trial, 0.8)
    # So that the run resumes within an epoch. How often a checkpoint is written makes no other difference.
    run = trial.with_keys(checkpoint_every_n_iterations=CHECKPOINT_EVERY_N_ITERATIONS).run_killed("training", iteration)
    differences = compare_with_uninterrupted(trial, run, is_killed=True)
    if differences:
        raise HookCheckError(
            f"A run that was killed in training iteration {iteration} and resumed ended differently from the "
            "uninterrupted run.\nIf stopped runs fail, too, fix those first. Otherwise iterations after the last "
            "checkpoint, which run again, leave a trace in something that isn't restored with the checkpoint: a file "
            "that the hook appends to, or data outside of the run directory. To fix, save the file's size in "
            "state_dict(), and truncate the file to it in on_run_start.\n"
            f"The differences are {format_differences(differences)}."
        )
    how = f" (in this process, with a copy of its files, since another process can't create the hook: {run.note})"
    result = f"a run was killed in training iteration {iteration} and ended like the uninterrupted run"
    return f"{result}{how if run.note else ''}"


def _not_compared(trial: HookTrial) -> str:
    found = find_unrepeatable(trial) - torchbase_files(trial)
    return (
        f". Not compared, since two uninterrupted runs differ in it: {format_differences(sorted(found))}"
        if found
        else ""
    )


def _iterations(stops: Iterable[tuple[str, int]]) -> str:
    by_phase: dict[str, list[str]] = {}
    for phase, iteration in stops:
        by_phase.setdefault(phase, []).append(str(iteration))
    return ", ".join(f"{phase} iteration {' '.join(numbers)}" for phase, numbers in by_phase.items())


def _result_on_processes(trial: HookTrial, processes: int) -> CheckResult:
    reason = reason_against_forking()
    if reason is not None:
        return CheckResult(PROCESSES, True, f"not checked, since {reason}", was_skipped=True)
    return _result_of(PROCESSES, partial(check_processes, processes=processes), trial)


def _result_of(name: str, check: Callable[[HookTrial], str], trial: HookTrial) -> CheckResult:
    try:
        return CheckResult(name, True, check(trial))
    except HookCheckError as error:
        return CheckResult(name, False, str(error))
