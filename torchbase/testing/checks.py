"""The checks of a hook, each by itself, and all of them at once."""

from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

from torchbase.engine import plugins
from torchbase.errors import HookCheckError, HookError
from torchbase.files.bitwise import different_values
from torchbase.session.base import TrainingBaseSession
from torchbase.testing.comparisons import own_files, places_to_stop, training_iteration, unrepeatable, wrong_in
from torchbase.testing.explanations import (
    events_of,
    why_it_does_not_go_on,
    why_it_does_not_only_observe,
    why_it_does_not_repeat,
)
from torchbase.testing.outcomes import LEARNT, differing, listed, of_the_same_names
from torchbase.testing.overhead import measure_overhead
from torchbase.testing.report import CheckResult, HookReport
from torchbase.testing.trial import HookTrial

CHECKPOINT_EVERY_N_ITERATIONS = 3


def check_hook(
    make_hook: Callable[[], object],
    *,
    observes: bool,
    session_class: type[TrainingBaseSession] | None = None,
    config: Mapping[str, Any] | None = None,
) -> HookReport:
    """Checks that a hook can be registered, keeps its state, is resumed exactly and, if it observes, changes nothing.

    Args:
        make_hook: Makes the hook; called without arguments, for each run anew: a class, a function, a
            ``functools.partial``. If it can be imported, it is tried in a process that is killed, too.
        observes: Whether the hook only observes, so that a run with it has to end bit for bit as one without it. A hook
            that changes the training on purpose has to change it in the same way each time.
        session_class: The class of the session to try it in, with the constructor of `TrainingBaseSession`; without one
            a tiny session that needs no data.
        config: The config of the session, with few epochs: about thirty runs are made.

    Returns:
        What was checked, and what the hook costs; ``print`` shows it.

    Raises:
        HookCheckError: If a check fails. The message is the whole report, with what differs and how to mend it.
    """
    trial = HookTrial(make_hook, session_class, config)
    neutrality = ("observes", check_neutrality) if observes else ("repeats", check_repetition)
    checks = [("state", check_state), neutrality, ("stopped", check_stops), ("killed", check_kill)]
    results = [_result_of("registers", check_registration, trial)]
    if results[0].passed:  # else each of the others would fail for the same reason
        results += [_result_of(name, check, trial) for name, check in checks]
    is_good = all(one.passed for one in results)
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
        What was seen.

    Raises:
        HookCheckError: If it can't, or doesn't.
    """
    hook = trial.make_hook()
    try:
        plugins.check_hook(hook)
        name = plugins.name_of(hook)
    except HookError as error:
        raise HookCheckError(f"It can't be registered: {error}") from error
    if hook is trial.make_hook() and not isinstance(hook, ModuleType):
        raise HookCheckError(
            "make_hook gave the same hook twice, so what it remembers of one run would come into the next. To fix, "
            "give what makes a new one: the class itself, or functools.partial(TheClass, its, arguments)."
        )
    if not any((told.event, told.phase) == ("on_iteration_end", "training") for told in trial.unbroken.told):
        raise HookCheckError(
            "In a run with it no training iteration came to its end, so there is nothing to check. To fix, look "
            "whether it stops the run at once, or does run_phase without telling on_iteration_end."
        )
    return f"as '{name}'; it hears {', '.join(events_of(hook))}"


def check_state(trial: HookTrial) -> str:
    """Checks that what ``state_dict`` gives comes back by a checkpoint and ``load_state_dict``.

    Args:
        trial: The runs of the hook.

    Returns:
        What was seen.

    Raises:
        HookCheckError: If a value comes back otherwise, or one of both methods is missing.
    """
    hook = trial.make_hook()
    has = {name: callable(getattr(hook, name, None)) for name in ("state_dict", "load_state_dict")}
    if not any(has.values()):
        return "it keeps none in checkpoints"
    if not all(has.values()):
        there, missing = sorted(has, key=lambda name: not has[name])
        raise HookCheckError(f"It has {there} and no {missing}, so nothing of it is kept. To fix, write {missing}.")
    iteration = training_iteration(trial, 0.3)
    run = trial.stopped_at("training", iteration)
    kept, restored = run.kept_state or {}, run.restored_state or {}
    names = different_values(kept, restored)
    if names:
        raise HookCheckError(
            f"A run that was stopped behind training iteration {iteration} went on with another state than was kept; "
            f"there differ {', '.join(names)}. To fix, let load_state_dict(state) take all that state_dict() gives. It "
            "is called before the hook's own on_run_start, which must not overwrite it."
        )
    return f"{', '.join(kept) or 'nothing'} came back from a checkpoint"


def check_neutrality(trial: HookTrial) -> str:
    """Checks that a run with the hook ends bit for bit as one without it.

    Args:
        trial: The runs of the hook.

    Returns:
        What was compared.

    Raises:
        HookCheckError: If they differ in the network, the optimizer, the best network, the progress, or in averages
            or scalars that a run without the hook has.
    """
    without = trial.without.outcome
    left_out = unrepeatable(trial) | own_files(trial)
    found = differing(without, of_the_same_names(trial.unbroken.outcome, without))
    wrong = [one for one in found if one not in left_out]
    if wrong:
        raise HookCheckError(
            f"It is said to observe, and a run with it ends otherwise than one without it.\n"
            f"{why_it_does_not_only_observe(trial)}\nThere differ {listed(wrong)}."
        )
    return "a run with it ends bit for bit as one without it: weights, optimizer, best network, averages and curves"


def check_repetition(trial: HookTrial) -> str:
    """Checks that two runs with the hook learn the same, bit for bit.

    Args:
        trial: The runs of the hook.

    Returns:
        What was compared.

    Raises:
        HookCheckError: If they don't.
    """
    wrong = differing(trial.unbroken.outcome, trial.again.outcome, LEARNT)
    if wrong:
        raise HookCheckError(
            f"The same run twice ended in two ways.\n{why_it_does_not_repeat(trial)}\nThere differ {listed(wrong)}."
        )
    return "the same run twice ends bit for bit the same: weights, optimizer and best network"


def check_stops(trial: HookTrial) -> str:
    """Checks that runs which are stopped and resumed end as the one that never was, and tell the hook all of it.

    They are stopped at both ends and in the middle of training phases, and within and at the end of validations.

    Args:
        trial: The runs of the hook.

    Returns:
        Where runs were stopped, and what isn't compared.

    Raises:
        HookCheckError: If one ends otherwise.
    """
    places = places_to_stop(trial)
    failed = {place: wrong for place in places if (wrong := wrong_in(trial, trial.stopped_at(*place)))}
    if failed:
        place, wrong = next(iter(failed.items()))
        raise HookCheckError(
            f"{len(failed)} of {len(places)} runs that were stopped and resumed ended otherwise than the unbroken one; "
            f"stopped behind {_iterations(failed)}.\n{why_it_does_not_go_on(trial, *place, wrong)}\n"
            f"In the first of them there differ {listed(wrong)}."
        )
    return f"{len(places)} runs ended as the unbroken one; stopped behind {_iterations(places)}{_not_compared(trial)}"


def check_kill(trial: HookTrial) -> str:
    """Checks that a run whose process is killed by SIGKILL, and that is resumed, ends as one that never was.

    Args:
        trial: The runs of the hook.

    Returns:
        Where it was killed.

    Raises:
        HookCheckError: If it ends otherwise.
    """
    iteration = training_iteration(trial, 0.8)
    # So that the run goes on in the middle of an epoch; how often a checkpoint is written makes no other difference.
    run = trial.with_keys(checkpoint_every_n_iterations=CHECKPOINT_EVERY_N_ITERATIONS).run_killed("training", iteration)
    wrong = wrong_in(trial, run, is_killed=True)
    if wrong:
        raise HookCheckError(
            f"A run that was killed in training iteration {iteration} and resumed ended otherwise than the unbroken "
            "one.\nIf runs that are stopped don't end well either, begin with those. Else what was done since the last "
            "checkpoint, and is done again, leaves a trace in what isn't put back with it: a file that is appended to, "
            "what is kept outside of the run directory. To fix, keep in state_dict() how long the file was, and cut it "
            f"back to that in on_run_start.\nThere differ {listed(wrong)}."
        )
    how = f" (in this process, by a copy of its files, since it can't be made in another: {run.note})"
    return f"a run was killed in training iteration {iteration} and ended as the unbroken one{how if run.note else ''}"


def _not_compared(trial: HookTrial) -> str:
    found = unrepeatable(trial) - own_files(trial)
    return f". Not compared, since two unbroken runs differ in it: {listed(sorted(found))}" if found else ""


def _iterations(places: Iterable[tuple[str, int]]) -> str:
    by_phase: dict[str, list[str]] = {}
    for phase, iteration in places:
        by_phase.setdefault(phase, []).append(str(iteration))
    return ", ".join(f"{phase} iteration {' '.join(numbers)}" for phase, numbers in by_phase.items())


def _result_of(name: str, check: Callable[[HookTrial], str], trial: HookTrial) -> CheckResult:
    try:
        return CheckResult(name, True, check(trial))
    except HookCheckError as error:
        return CheckResult(name, False, str(error))
