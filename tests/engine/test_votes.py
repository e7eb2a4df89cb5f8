import json

import pytest

from torchbase.engine.votes import Decision, Vote, append_decision, check_rule, decide, is_better, truncate_decisions
from torchbase.errors import HookError


@pytest.mark.parametrize(
    ("value", "best", "mode", "expected"),
    [
        (1.0, None, "min", True),
        (1.0, 2.0, "min", True),
        (2.0, 2.0, "min", False),
        (3.0, 2.0, "max", True),
        (2.0, 2.0, "max", False),
        (float("nan"), None, "min", False),
        (float("nan"), 1.0, "max", False),
        (float("-inf"), 1.0, "min", True),
    ],
)
def test_is_better(value, best, mode, expected):
    assert is_better(value, best, mode) is expected


def make_votes(*are_for):
    return [Vote(f"validation-{number}", 0.5, None, is_for) for number, is_for in enumerate(are_for)]


@pytest.mark.parametrize(
    ("rule", "are_for", "is_best"),
    [
        ("unanimous", (True, True, True), True),
        ("unanimous", (True, True, False), False),
        ("majority", (True, True, False), True),
        ("majority", (True, False), False),
        ("majority", (True,), True),
        ("any", (True, False, False), True),
        ("any", (False, False), False),
        (lambda votes: votes["validation-1"], (False, True), True),
        (lambda votes: votes["validation-1"], (True, False), False),
    ],
)
def test_rules(rule, are_for, is_best):
    check_rule(rule)
    assert decide(rule, 3, 30, make_votes(*are_for), "loss").is_best is is_best


def test_the_reason_names_the_sets_that_vote_against_and_their_values():
    votes = [Vote("validation-a", 0.5, 0.75, True), Vote("validation-b", 0.25, 0.125, False)]
    assert decide("unanimous", 2, 20, votes, "loss").reason == (
        "unanimous: 1 of 2 sets have their best loss so far; not validation-b (0.25, 0.125 before)"
    )


@pytest.mark.parametrize("rule", ["unanimus", "", None, 3])
def test_an_unknown_rule_is_refused(rule):
    with pytest.raises(HookError, match="has to be one of 'unanimous', 'majority', 'any', or a function"):
        check_rule(rule)


def test_decisions_are_appended_as_lines_and_can_be_truncated(tmp_path):
    file = tmp_path / "votes.jsonl"
    truncate_decisions(file, 1)
    assert not file.exists()
    for epoch in (1, 2, 3):
        vote = Vote("validation-a", float("nan"), 0.5, False)
        append_decision(file, Decision(epoch, 10 * epoch, epoch == 2, "because", (vote,)))
    with file.open("a") as lines:
        lines.write('{"epoch": 4, "ke')  # as a killed process leaves it
    truncate_decisions(file, 2)
    written = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["epoch"] for line in written] == [1, 2]
    assert written[1] == {
        "epoch": 2,
        "iteration": 20,
        "is_best": True,
        "reason": "because",
        "votes": [{"phase": "validation-a", "value": "nan", "best_before": 0.5, "is_for": False}],
    }
