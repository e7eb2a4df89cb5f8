"""Where the runs of a hook are interrupted, and how they are compared with an uninterrupted run."""

from collections import Counter

from torchbase.testing.outcomes import TRAINED, find_differences
from torchbase.testing.trial import HookTrial
from torchbase.testing.tried_run import TriedRun


def choose_stops(trial: HookTrial) -> list[tuple[str, int]]:
    """Chooses where runs are stopped.

    These are both ends and the middle of the first and the last training phase, and the middle and the end of the first
    and the last validation of the first epoch.

    Args:
        trial: The runs of the hook.

    Returns:
        Phases and their iterations, counted over the whole run.
    """
    numbers: dict[tuple[int, str], list[int]] = {}
    for fired in trial.unbroken.events:
        if fired.event == "on_iteration_end":
            numbers.setdefault((fired.epoch, fired.phase), []).append(fired.number)
    training = [key for key in numbers if key[1] == "training"]
    validation = [key for key in numbers if key[1] != "training" and key[0] == training[0][0]]
    stops = [(key[1], numbers[key][at]) for key in _ends(training) for at in (0, len(numbers[key]) // 2, -1)]
    stops += [(key[1], numbers[key][at]) for key in _ends(validation) for at in (len(numbers[key]) // 2, -1)]
    return list(dict.fromkeys(stops))


def _ends(keys: list[tuple[int, str]]) -> list[tuple[int, str]]:
    return [*keys[:1], *keys[1:][-1:]]


def training_iteration(trial: HookTrial, share: float) -> int:
    """Returns the training iteration at a share of an uninterrupted run.

    Args:
        trial: The runs of the hook.
        share: From 0 to below 1.
    """
    events = trial.unbroken.events
    numbers = [fired.number for fired in events if (fired.event, fired.phase) == ("on_iteration_end", "training")]
    return numbers[int(len(numbers) * share)]


def find_unrepeatable(trial: HookTrial) -> set[tuple[str, str]]:
    """Finds what differs even between two uninterrupted runs, for example a measured time.

    Args:
        trial: The runs of the hook.

    Returns:
        Parts and names of an outcome, except the trained parts.
    """
    return {found for found in find_differences(trial.unbroken.outcome, trial.again.outcome) if found[0] not in TRAINED}


def torchbase_files(trial: HookTrial) -> set[tuple[str, str]]:
    """Lists the files that torchbase itself writes: some contain times, others the registered hooks.

    Args:
        trial: The runs of the hook.

    Returns:
        The part and name of each file in an outcome.
    """
    return {("files", name) for name in trial.without.outcome["files"]}


def compare_with_uninterrupted(trial: HookTrial, run: TriedRun, *, is_killed: bool = False) -> list[tuple[str, str]]:
    """Compares an interrupted run with the uninterrupted run.

    Args:
        trial: The runs of the hook.
        run: The run that was interrupted and resumed.
        is_killed: Whether iterations after a checkpoint had to run again.

    Returns:
        The part and name of each difference, and the events that fired too often or too rarely.
    """
    ignored = find_unrepeatable(trial) | torchbase_files(trial)
    found = find_differences(trial.unbroken.outcome, run.outcome)
    differences = [difference for difference in found if difference not in ignored]
    expected, got = Counter(trial.unbroken.events), Counter(run.events)
    for fired in {**expected, **got}:
        # An interrupted validation restarts.
        may_repeat = is_killed or (fired.phase not in ("training", "-") and fired.event != "on_phase_end")
        if got[fired] != expected[fired] and not (may_repeat and got[fired] > expected[fired] > 0):
            differences.append(("events", f"{fired} {got[fired]} times instead of {expected[fired]}"))
    return differences
