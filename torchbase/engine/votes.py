"""The votes of the validation sets on the best network, the decision and its reason."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torchbase.errors import HookError, did_you_mean
from torchbase.files.json_lines import append_line, truncate_lines
from torchbase.files.json_values import finite_or_text

if TYPE_CHECKING:  # the command reads votes without torch
    from torchbase.metrics.directions import Mode

VOTES_FILE = "votes.jsonl"
Rule = Literal["unanimous", "majority", "any"] | Callable[[Mapping[str, bool]], bool]
RULES: dict[str, Callable[[Sequence[bool]], bool]] = {
    "unanimous": all,
    "majority": lambda votes: sum(votes) * 2 > len(votes),
    "any": any,
}


@dataclass(frozen=True)
class Vote:
    """The vote of one validation set.

    Attributes:
        phase: The name of the phase of the set.
        value: The monitored value.
        best_before: The best value so far, without this one; None if this is the first.
        is_for: Whether the value is better than the best so far.
    """

    phase: str
    value: float
    best_before: float | None
    is_for: bool


@dataclass(frozen=True)
class Decision:
    """A decision on whether the network is the best so far.

    Attributes:
        epoch: The epoch.
        iteration: The number of finished training iterations.
        is_best: Whether the network is saved as the best.
        reason: The reason, in words.
        votes: The votes of the validation sets.
    """

    epoch: int
    iteration: int
    is_best: bool
    reason: str
    votes: tuple[Vote, ...]


@dataclass(frozen=True)
class BestNetwork:
    """The network that is saved as the best of a run.

    Attributes:
        epoch: Its epoch; the first is 1.
        iteration: The number of training iterations that were finished then.
        monitor: The name of the value by which the validation sets voted.
        values: The value of each set that voted then, by phase. Empty if no set votes.
    """

    epoch: int
    iteration: int
    monitor: str
    values: Mapping[str, float]


def check_rule(rule: Rule) -> None:
    """Checks the rule of `BestValidation`.

    Args:
        rule: The name of a rule, or a function.

    Raises:
        HookError: If it is neither.
    """
    if not callable(rule) and rule not in RULES:
        raise HookError(
            f"The rule of BestValidation is {rule!r}, but has to be one of {', '.join(map(repr, RULES))}, or a "
            f"function that takes the votes, a dictionary of phase names to True or False."
            f"{did_you_mean(rule, RULES)}"
        )


def is_better(value: float, best: float | None, mode: "Mode") -> bool:
    """Whether a value is better than the best so far. NaN never is.

    Args:
        value: The value.
        best: The best so far, or None.
        mode: ``"min"`` if lower is better, ``"max"`` if higher is better.
    """
    if math.isnan(value):
        return False
    return best is None or (value < best if mode == "min" else value > best)


def decide(rule: Rule, epoch: int, iteration: int, votes: Sequence[Vote], monitor: str) -> Decision:
    """Counts the votes.

    Args:
        rule: The name of a rule, or a function of the votes.
        epoch: The epoch.
        iteration: The number of finished training iterations.
        votes: At least one vote.
        monitor: The name of the monitored value.

    Returns:
        The decision.
    """
    if callable(rule):
        is_best, name = bool(rule({vote.phase: vote.is_for for vote in votes})), getattr(rule, "__name__", "a function")
    else:
        is_best, name = RULES[rule]([vote.is_for for vote in votes]), rule
    counted = f"{sum(vote.is_for for vote in votes)} of {len(votes)} sets have their best {monitor} so far"
    against = [_describe(vote) for vote in votes if not vote.is_for]
    reason = f"{name}: {counted}" + (f"; not {', '.join(against)}" if against else "")
    return Decision(epoch, iteration, is_best, reason, tuple(votes))


def append_decision(file: Path, decision: Decision) -> None:
    """Appends a decision to a file, as a line of JSON.

    Args:
        file: The file.
        decision: The decision.

    Raises:
        RunDirectoryError: If the file can't be written.
    """
    content: dict[str, Any] = {
        "epoch": decision.epoch,
        "iteration": decision.iteration,
        "is_best": decision.is_best,
        "reason": decision.reason,
        "votes": [{name: finite_or_text(value) for name, value in asdict(vote).items()} for vote in decision.votes],
    }
    append_line(file, content)


def best_decision(decisions: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Finds the decision by which the best network was saved.

    Args:
        decisions: The decisions of a run as `append_decision` has written them.

    Returns:
        The decision; None if there is none.
    """
    return next((one for one in reversed(decisions) if one.get("is_best") is True), None)


def truncate_decisions(file: Path, decisions: int) -> None:
    """Truncates a file to its first decisions, and removes an incomplete line of a killed process.

    Args:
        file: The file, which may be missing.
        decisions: The number of decisions at the checkpoint from which the run resumes.

    Raises:
        RunDirectoryError: If the file can't be written.
    """
    truncate_lines(file, decisions)


def _describe(vote: Vote) -> str:
    before = "the first" if vote.best_before is None else f"{vote.best_before:.6g} before"
    return f"{vote.phase} ({vote.value:.6g}, {before})"
