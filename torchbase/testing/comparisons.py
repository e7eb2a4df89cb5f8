"""Where runs of a hook are broken off, and what of them has to be as in an unbroken one."""

from collections import Counter

from torchbase.testing.outcomes import LEARNT, differing
from torchbase.testing.trial import HookTrial
from torchbase.testing.tried_run import TriedRun


def places_to_stop(trial: HookTrial) -> list[tuple[str, int]]:
    """Chooses where runs are stopped: at both ends and in the middle of the first and the last training phase.

    And in the middle and at the end of the first and the last validation of the first epoch.

    Args:
        trial: The runs of the hook.

    Returns:
        Phases and their iterations, counted over the whole run.
    """
    numbers: dict[tuple[int, str], list[int]] = {}
    for told in trial.unbroken.told:
        if told.event == "on_iteration_end":
            numbers.setdefault((told.epoch, told.phase), []).append(told.number)
    training = [key for key in numbers if key[1] == "training"]
    validation = [key for key in numbers if key[1] != "training" and key[0] == training[0][0]]
    places = [(key[1], numbers[key][at]) for key in _ends(training) for at in (0, len(numbers[key]) // 2, -1)]
    places += [(key[1], numbers[key][at]) for key in _ends(validation) for at in (len(numbers[key]) // 2, -1)]
    return list(dict.fromkeys(places))


def _ends(keys: list[tuple[int, str]]) -> list[tuple[int, str]]:
    return [*keys[:1], *keys[1:][-1:]]


def training_iteration(trial: HookTrial, share: float) -> int:
    """Gives the training iteration after which a share of an unbroken run is done.

    Args:
        trial: The runs of the hook.
        share: From 0 to below 1.
    """
    told = trial.unbroken.told
    numbers = [one.number for one in told if (one.event, one.phase) == ("on_iteration_end", "training")]
    return numbers[int(len(numbers) * share)]


def unrepeatable(trial: HookTrial) -> set[tuple[str, str]]:
    """Finds what is recorded otherwise each time, even in two unbroken runs: a time that was taken, say.

    Args:
        trial: The runs of the hook.

    Returns:
        Parts and names of an outcome; what is learnt isn't among them.
    """
    return {found for found in differing(trial.unbroken.outcome, trial.again.outcome) if found[0] not in LEARNT}


def own_files(trial: HookTrial) -> set[tuple[str, str]]:
    """Lists the files that torchbase itself writes: some tell of times, others of the hooks that are registered.

    Args:
        trial: The runs of the hook.

    Returns:
        Part and name of each in an outcome.
    """
    return {("files", name) for name in trial.without.outcome["files"]}


def wrong_in(trial: HookTrial, run: TriedRun, *, is_killed: bool = False) -> list[tuple[str, str]]:
    """Compares a run that was broken off with the unbroken one.

    Args:
        trial: The runs of the hook.
        run: The run that was broken off and went on.
        is_killed: Whether what was done since a checkpoint had to be done again.

    Returns:
        Part and name of each value that differs, and what was told too often or too seldom.
    """
    left_out = unrepeatable(trial) | own_files(trial)
    wrong = [found for found in differing(trial.unbroken.outcome, run.outcome) if found not in left_out]
    expected, got = Counter(trial.unbroken.told), Counter(run.told)
    for told in {**expected, **got}:
        # A validation that was broken off begins again.
        may_come_again = is_killed or (told.phase not in ("training", "-") and told.event != "on_phase_end")
        if got[told] != expected[told] and not (may_come_again and got[told] > expected[told] > 0):
            wrong.append(("what was told", f"{told} {got[told]} times in place of {expected[told]}"))
    return wrong
