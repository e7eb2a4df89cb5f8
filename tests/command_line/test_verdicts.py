from pathlib import Path

import pytest
from made_up import make_run, status_with
from tiny import TinySession, config_with

from torchbase.command_line.run_details import read_details
from torchbase.command_line.run_records import read_run
from torchbase.command_line.verdicts import TITLE, TITLE_WITHOUT_VOTES, judge

NAN = float("nan")
DIRECTIONS = {"loss": "min", "accuracy": "max"}


def make(parent, tag, loss, seed=None, directions=DIRECTIONS, **values):
    averages = {"training": [{"loss": 9.0}], "validation-valid": [{"loss": loss, **values}]}
    status = status_with(directions=directions)
    return make_run(parent, tag, averages=averages, status=status, **({} if seed is None else seed))


def verdicts_of(*folders):
    runs = [read_run(folder) for folder in folders]
    found = judge(runs, [read_details(folder) for folder in folders], "ABCDEF"[: len(runs)])
    return {verdict.name: list(verdict.lines) for verdict in found.verdicts}


def test_losses_are_better_if_lower_and_metrics_by_their_direction(tmp_path):
    first = make(tmp_path, "first", 0.5, accuracy=0.875, size=3.0)
    second = make(tmp_path, "second", 0.25, accuracy=0.75, size=4.0)
    assert verdicts_of(first, second) == {
        "valid loss": ["B is better: 0.2500 < 0.5000 of A"],
        "valid accuracy": ["A is better: 0.8750 > 0.7500 of B"],
    }


def test_a_direction_on_which_the_runs_do_not_agree_is_unknown(tmp_path):
    first = make(tmp_path, "first", 0.5, accuracy=0.875)
    second = make(tmp_path, "second", 0.25, accuracy=0.75, directions={"accuracy": "min"})
    assert list(verdicts_of(first, second)) == ["valid loss"]


@pytest.mark.parametrize(
    ("losses", "line"),
    [
        ((0.5, 0.5), "A and B are equal: 0.5000"),
        ((NAN, 0.5), "B is better: 0.5000, and A has nan"),
        ((NAN, NAN), "A and B are equal: nan"),
        ((float("inf"), 0.5), "B is better: 0.5000 < inf of A"),
        ((0.5, 0.25, 0.375), "B is best: 0.2500 < 0.3750 of C"),
        ((0.5, NAN, 0.375), "C is best: 0.3750 < 0.5000 of A"),
    ],
)
def test_the_best_run_is_named_before_the_next(tmp_path, losses, line):
    folders = [make(tmp_path, str(position), loss) for position, loss in enumerate(losses)]
    assert verdicts_of(*folders) == {"valid loss": [line]}


def families(parent, first, second):
    """The first runs of two families whose runs differ only in their seeds."""
    folders = {
        name: [
            make(parent, f"{name}-{seed}", loss, {"seed": seed, "group": "g", "learning_rate": rate})
            for seed, loss in enumerate(losses)
        ]
        for name, losses, rate in (("a", first, 0.1), ("b", second, 0.2))
    }
    return folders["a"][0], folders["b"][0]


def test_a_difference_beyond_twice_the_spread_over_seeds_is_said_to_be(tmp_path):
    # The deviations are 0.03 and 0.04, so that of a difference is 0.05.
    first, second = families(tmp_path, (0.5, 0.53, 0.47), (0.6001, 0.6401, 0.5601))
    assert verdicts_of(first, second)["valid loss"] == [
        "A is better: 0.5000 < 0.6001 of B, beyond the spread over seeds (± 0.1000)",
        "A: 0.5000 ± 0.03000 over 3 seeds",
        "B: 0.6001 ± 0.04000 over 3 seeds",
    ]
    first, second = families(tmp_path / "other", (0.5, 0.53, 0.47), (0.5999, 0.6399, 0.5599))
    assert "within the spread over seeds (± 0.1000)" in verdicts_of(first, second)["valid loss"][0]


def test_the_spread_of_one_run_stands_for_that_of_the_other(tmp_path):
    first, second = families(tmp_path, (0.5, 0.53, 0.47), (0.55,))
    assert verdicts_of(first, second)["valid loss"] == [
        "A is better: 0.5000 < 0.5500 of B, within the spread over seeds (± 0.08485)",
        "A: 0.5000 ± 0.03000 over 3 seeds",
    ]


def test_runs_that_differ_only_in_their_seed_share_a_line(tmp_path):
    first, _ = families(tmp_path, (0.5, 0.53, 0.47, NAN), (0.55,))
    assert verdicts_of(first, tmp_path / "a-1")["valid loss"] == [
        "A is better: 0.5000 < 0.5300 of B, within the spread over seeds (± 0.08485)",
        "A, B: 0.5000 ± 0.03000 over 3 seeds; 1 more have no finite value",
    ]


def test_only_sets_that_vote_count_unless_none_votes(tmp_path):
    session = TinySession(config_with(group="tiny"), tmp_path)
    session()
    other = TinySession(config_with(group="tiny", seed=8), tmp_path)
    other()
    folders = [Path(one.run_dir) for one in (session, other)]
    runs, details = [read_run(folder) for folder in folders], [read_details(folder) for folder in folders]
    found = judge(runs, details, "AB")
    assert found.title == TITLE
    assert [verdict.name for verdict in found.verdicts] == ["valid loss"]  # not demo
    (line, spread) = found.verdicts[0].lines
    assert "within the spread over seeds" in line
    assert spread.endswith("over 2 seeds")
    for folder in folders:
        (folder / "votes.jsonl").unlink()
    found = judge(runs, [read_details(folder) for folder in folders], "AB")
    assert found.title == TITLE_WITHOUT_VOTES
    assert [verdict.name for verdict in found.verdicts] == ["valid loss", "demo loss"]


def test_damaged_votes_are_no_votes(tmp_path):
    folders = [make(tmp_path, tag, 0.5) for tag in "ab"]
    for folder in folders:
        (folder / "votes.jsonl").write_text('{"epoch": 1, "is_best": true, "votes": [3, {"phase": []}]}\n')
    runs, details = [read_run(folder) for folder in folders], [read_details(folder) for folder in folders]
    assert judge(runs, details, "AB").title == TITLE_WITHOUT_VOTES
