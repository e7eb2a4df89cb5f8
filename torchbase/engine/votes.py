"""The votes of the validation sets on the best network: who is for it, what is decided, and why."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from torchbase.errors import HookError, did_you_mean
from torchbase.files.json_lines import append_line, truncate_lines
from torchbase.files.json_values import finite_or_text

VOTES_FILE = "votes.jsonl"
Rule = Literal["unanimous", "majority", "any"] | Callable[[Mapping[str, bool]], bool]
RULES: dict[str, Callable[[Sequence[bool]], bool]] = {
    "unanimous": all,
    "majority": lambda votes: sum(votes) * 2 > len(votes),
    "any": any,
}


@dataclass(frozen=True)
class Vote:
    """The vote of one set.

    Attributes:
        phase: The phase of the set.
        value: What it measured.
        best_before: The best that it had measured before; None if nothing.
        is_for: Whether its value is better.
    """

    phase: str
    value: float
    best_before: float | None
    is_for: bool


@dataclass(frozen=True)
class Decision:
    """What was decided after an epoch.

    Attributes:
        epoch: The epoch.
        iteration: How many training iterations were done.
        is_kept: Whether the network is kept.
        reason: Why, in words.
        votes: The votes of the sets that were validated on.
    """

    epoch: int
    iteration: int
    is_kept: bool
    reason: str
    votes: tuple[Vote, ...]


def check_rule(rule: Rule) -> None:
    """Refuses what is no rule.

    Args:
        rule: The name of a rule, or a function.

    Raises:
        HookError: If it is neither.
    """
    if not callable(rule) and rule not in RULES:
        raise HookError(
            f"The rule of BestValidation is {rule!r}, and has to be one of {', '.join(map(repr, RULES))}, or a "
            f"function of the votes, a dictionary from phases to True or False.{did_you_mean(rule, RULES)}"
        )


def is_better(value: float, best: float | None, mode: Literal["min", "max"]) -> bool:
    """Tells whether a value is better than the best before it; NaN never is.

    Args:
        value: The value.
        best: The best before it, if any.
        mode: Whether lower or higher is better.
    """
    if math.isnan(value):
        return False
    return best is None or (value < best if mode == "min" else value > best)


def decide(rule: Rule, epoch: int, iteration: int, votes: Sequence[Vote], monitor: str) -> Decision:
    """Counts the votes.

    Args:
        rule: The name of a rule, or a function of the votes.
        epoch: The epoch.
        iteration: How many training iterations are done.
        votes: At least one vote.
        monitor: The name of what the sets measured.

    Returns:
        The decision.
    """
    if callable(rule):
        is_kept, name = bool(rule({vote.phase: vote.is_for for vote in votes})), getattr(rule, "__name__", "a function")
    else:
        is_kept, name = RULES[rule]([vote.is_for for vote in votes]), rule
    counted = f"{sum(vote.is_for for vote in votes)} of {len(votes)} sets have their best {monitor} so far"
    against = [_describe(vote) for vote in votes if not vote.is_for]
    reason = f"{name}: {counted}" + (f"; not {', '.join(against)}" if against else "")
    return Decision(epoch, iteration, is_kept, reason, tuple(votes))


def append_decision(file: Path, decision: Decision) -> None:
    """Appends a line of JSON.

    Args:
        file: The file of the decisions.
        decision: The decision.

    Raises:
        RunDirectoryError: The operating system refused.
    """
    content: dict[str, Any] = {
        "epoch": decision.epoch,
        "iteration": decision.iteration,
        "kept": decision.is_kept,
        "reason": decision.reason,
        "votes": [{name: finite_or_text(value) for name, value in asdict(vote).items()} for vote in decision.votes],
    }
    append_line(file, content)


def truncate_decisions(file: Path, decisions: int) -> None:
    """Takes away the decisions that are to be made again, and half a line that a killed process left.

    Args:
        file: The file of the decisions, which may be missing.
        decisions: How many there were at the point to which the run goes back.

    Raises:
        RunDirectoryError: The operating system refused.
    """
    truncate_lines(file, decisions)


def _describe(vote: Vote) -> str:
    before = "the first" if vote.best_before is None else f"{vote.best_before:.6g} before"
    return f"{vote.phase} ({vote.value:.6g}, {before})"
