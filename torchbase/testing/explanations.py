"""Explains why a check probably failed: where the runs diverge, and what that suggests."""

from collections.abc import Sequence

from torchbase.checkpoints.run_state import Stateful
from torchbase.engine.hook_checks import EVENT_NAMES
from torchbase.files.bitwise import different_values
from torchbase.testing.outcomes import format_differences
from torchbase.testing.traces import MODE, RANDOM_STREAMS, Divergence, Trace, find_divergence
from torchbase.testing.trial import HookTrial
from torchbase.testing.tried_run import TriedRun

REPEATED_EVENTS = ("on_run_start", "on_epoch_start", "on_phase_start", "run_forward")


def explain_interference(trial: HookTrial) -> str:
    """Explains why a run with a hook differs from one without it.

    Args:
        trial: The runs of the hook.

    Returns:
        Lines of a message.
    """
    without, with_hook = Trace(), Trace()
    trial.run(with_hook=False, watched_by=[without])
    trial.run(watched_by=[with_hook])
    divergence = find_divergence(without, with_hook)
    if divergence is None:
        return (
            "Nothing that an iteration uses differs. To fix, check what the hook changes in `run` and `phase`: the "
            "averages, best_losses, stop_reason."
        )
    if divergence.is_in(MODE):
        advice = "It changes the mode of the network. To fix, restore network.training."
    elif divergence.is_in(RANDOM_STREAMS):
        advice = (
            "It draws from the global random streams within an iteration, so later draws (of dropout, for example) "
            "differ. To fix, wrap its draws in `with torchbase.isolate_rng(run.device):`, or draw from its own "
            "torch.Generator."
        )
    else:
        advice = (
            "It changes what it should only observe. To fix, work on a copy (tensor.detach().clone()) and restore "
            "what it has to change; or, if it changes the training on purpose, check it with observes=False."
        )
    return f"{_where(trial, without, with_hook)}\n{advice}"


def explain_no_repetition(trial: HookTrial) -> str:
    """Explains why two runs with a hook differ.

    Args:
        trial: The runs of the hook.

    Returns:
        Lines of a message.
    """
    first, second = Trace(), Trace()
    trial.run(watched_by=[first])
    trial.run(watched_by=[second])
    return (
        f"{_where(trial, first, second)}\nIt depends on something that the seed doesn't determine: a generator with a "
        "random seed, the time, the order of a set, or something that the first run left over (an attribute of the "
        "class, a global). To fix, draw from the global streams within an iteration, or seed a generator with "
        "run.randomness.derive('a name')."
    )


def explain_wrong_resume(trial: HookTrial, phase: str, iteration: int, differences: Sequence[tuple[str, str]]) -> str:
    """Explains why a run that was stopped and resumed differs from an uninterrupted run.

    Args:
        trial: The runs of the hook.
        phase: The name of the phase in which it was stopped.
        iteration: The iteration after which it was stopped.
        differences: The part and name of each difference at the end.

    Returns:
        Lines of a message.
    """
    uninterrupted, stopped = Trace(), Trace()
    trial.run(watched_by=[uninterrupted])
    trial.run_stopped(phase, iteration, watched_by=[stopped])
    hook = trial.make_hook()
    lines = [_where(trial, uninterrupted, stopped), _lost_state(trial, hook, trial.stopped_at(phase, iteration))]
    repeated = [event for event in implemented_events(hook) if event in REPEATED_EVENTS]
    if repeated:
        lines.append(
            f"A resumed run calls {', '.join(repeated)} once more (run_forward in the rehearsal). To fix, reset values "
            "only if phase.progress.mini_batches is 0, and don't overwrite a loaded state in on_run_start."
        )
    if phase != "training":
        lines.append(
            "An interrupted validation restarts from its first mini-batch. To fix, reset in on_phase_start what is "
            "accumulated over a validation."
        )
    if any(part == "files" for part, _ in differences):
        lines.append(
            "What it wrote to a file before the stop, or in on_run_end of the first part, is written twice. To fix, "
            "save the file's size in state_dict(), and truncate the file to it in on_run_start."
        )
    return "\n".join(line for line in lines if line)


def implemented_events(hook: object) -> list[str]:
    """Lists the events that a hook implements, in the order of the catalogue.

    Args:
        hook: Any hook that can be registered.
    """
    return [event for event in EVENT_NAMES if hasattr(hook, event)]


def _where(trial: HookTrial, expected: Trace, got: Trace) -> str:
    divergence = find_divergence(expected, got)
    return "" if divergence is None else describe_divergence(trial, divergence, "The runs diverge")


def describe_divergence(trial: HookTrial, divergence: Divergence, begin: str) -> str:
    """Describes where two runs diverge, and which events the hook implements there.

    Args:
        trial: The runs of the hook.
        divergence: Where they diverge.
        begin: The begin of the sentence.

    Returns:
        A line of a message.
    """
    since = "from the start" if divergence.before is None else f"after {divergence.before}"
    events = divergence.events_between(implemented_events(trial.make_hook()))
    implemented = f" There the hook implements {', '.join(events)}." if events else ""
    differences = format_differences(divergence.what)
    return f"{begin} {since}: at {divergence.at}, the differences are {differences}.{implemented}"


def _lost_state(trial: HookTrial, hook: object, resumed: TriedRun) -> str:
    expected, again, got = trial.unbroken.attributes, trial.again.attributes, resumed.attributes
    lost = ", ".join(
        f"self.{name}"
        for name in expected
        if not different_values(expected[name], again.get(name)) and different_values(expected[name], got.get(name))
    )
    if isinstance(hook, Stateful):
        fix = "To fix, check that state_dict() returns its whole state, and that load_state_dict() restores it."
        return f"Its state ended differently: {lost}. {fix}" if lost else ""
    if lost:
        return (
            f"It has no state_dict and load_state_dict, so its state is lost when a run is resumed: {lost}. To fix, "
            "return it in state_dict(), and restore it in load_state_dict(state)."
        )
    return (
        "It has no state_dict and load_state_dict. To fix, check whether it has a state outside of its plain "
        "attributes, and return that in state_dict()."
    )
