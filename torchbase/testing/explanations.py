"""Why a hook probably doesn't keep what is asked of it: where its runs part, and what that tells."""

from collections.abc import Sequence

from torchbase.checkpoints.run_state import Stateful
from torchbase.engine.plugins import EVENT_NAMES
from torchbase.files.bitwise import different_values
from torchbase.testing.outcomes import listed
from torchbase.testing.traces import MODE, RANDOM_STREAMS, Trace, find_divergence
from torchbase.testing.trial import HookTrial
from torchbase.testing.tried_run import TriedRun

TOLD_AGAIN = ("on_run_start", "on_epoch_start", "on_phase_start", "run_forward")


def why_it_does_not_only_observe(trial: HookTrial) -> str:
    """Explains why a run with a hook differs from one without it.

    Args:
        trial: The runs of the hook.

    Returns:
        Lines for a message.
    """
    without, with_hook = Trace(), Trace()
    trial.run(with_hook=False, watched_by=[without])
    trial.run(watched_by=[with_hook])
    parting = find_divergence(without, with_hook)
    if parting is None:
        return (
            "Nothing that an iteration works with differs. To fix, look for what the hook changes in `run` and "
            "`phase`: the averages, best_losses, stop_reason."
        )
    if parting.is_in(MODE):
        advice = "It leaves the network in another mode. To fix, put back what network.training was."
    elif parting.is_in(RANDOM_STREAMS):
        advice = (
            "It draws from the global random streams within an iteration, so what is drawn after it (dropout, say) "
            "comes out otherwise. To fix, put `with torchbase.randomness.fence(run.device):` around what draws, or "
            "draw from a torch.Generator of its own."
        )
    else:
        advice = (
            "It changes what it says to observe. To fix, work on a copy (tensor.detach().clone()) and put back what "
            "has to be changed; or, if it is to change the training, check it with observes=False."
        )
    return f"{_where(trial, without, with_hook)}\n{advice}"


def why_it_does_not_repeat(trial: HookTrial) -> str:
    """Explains why two runs with a hook differ from each other.

    Args:
        trial: The runs of the hook.

    Returns:
        Lines for a message.
    """
    first, second = Trace(), Trace()
    trial.run(watched_by=[first])
    trial.run(watched_by=[second])
    return (
        f"{_where(trial, first, second)}\nIt works with something that doesn't follow from the seed: a generator that "
        "is seeded by chance, the time, the order of a set, or something that the first run left behind (an attribute "
        "of the class, a global). To fix, draw from the global streams within an iteration, or seed a generator with "
        "run.randomness.derive('what for')."
    )


def why_it_does_not_go_on(trial: HookTrial, phase: str, iteration: int, wrong: Sequence[tuple[str, str]]) -> str:
    """Explains why a run that was stopped and resumed differs from an unbroken one.

    Args:
        trial: The runs of the hook.
        phase: The name of the phase in which it was stopped.
        iteration: The iteration behind which it was stopped.
        wrong: Part and name of what differs in the end.

    Returns:
        Lines for a message.
    """
    unbroken, stopped = Trace(), Trace()
    trial.run(watched_by=[unbroken])
    trial.run_stopped(phase, iteration, watched_by=[stopped])
    hook = trial.make_hook()
    lines = [_where(trial, unbroken, stopped), _what_is_lost(trial, hook, trial.stopped_at(phase, iteration))]
    again = [event for event in events_of(hook) if event in TOLD_AGAIN]
    if again:
        lines.append(
            f"A run that goes on tells {', '.join(again)} once more (run_forward in the rehearsal). To fix, begin anew "
            "only where phase.progress.mini_batches is 0, and don't overwrite in on_run_start what was loaded."
        )
    if phase != "training":
        lines.append(
            "A validation that was broken off begins again from its first mini-batch. To fix, let what is gathered "
            "over it begin anew in on_phase_start."
        )
    if any(part == "files" for part, _ in wrong):
        lines.append(
            "What it wrote into a file before the stop, or at the end of the first part in on_run_end, stands there a "
            "second time. To fix, keep in state_dict() how long the file was, and cut it back to that in on_run_start."
        )
    return "\n".join(line for line in lines if line)


def events_of(hook: object) -> list[str]:
    """Lists the events that a hook implements, in the order of the catalogue.

    Args:
        hook: Any hook that can be registered.
    """
    return [event for event in EVENT_NAMES if hasattr(hook, event)]


def _where(trial: HookTrial, expected: Trace, got: Trace) -> str:
    parting = find_divergence(expected, got)
    if parting is None:
        return ""
    since = "from the start" if parting.before is None else f"after {parting.before}"
    events = parting.events_between(events_of(trial.make_hook()))
    implemented = f" The hook implements there: {', '.join(events)}." if events else ""
    return f"The runs part {since}: at {parting.at} there differ {listed(parting.what)}.{implemented}"


def _what_is_lost(trial: HookTrial, hook: object, resumed: TriedRun) -> str:
    expected, again, got = trial.unbroken.attributes, trial.again.attributes, resumed.attributes
    lost = ", ".join(
        f"self.{name}"
        for name in expected
        if not different_values(expected[name], again.get(name)) and different_values(expected[name], got.get(name))
    )
    if isinstance(hook, Stateful):
        fix = "To fix, look whether state_dict() gives, and load_state_dict() takes, all that makes it up."
        return f"What it remembers ended otherwise: {lost}. {fix}" if lost else ""
    if lost:
        return (
            f"It has no state_dict and load_state_dict, so what it remembers is lost when a run goes on: {lost}. To "
            "fix, give that in state_dict(), and take it in load_state_dict(state)."
        )
    return (
        "It has no state_dict and load_state_dict. To fix, look whether it remembers something in another place than "
        "an attribute of plain values, and give that in state_dict()."
    )
