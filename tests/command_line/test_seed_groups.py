import math

from made_up import make_run, status_with

from torchbase.command_line.run_records import read_run
from torchbase.command_line.seed_groups import SeedGroups, Spread, spread_of


def make(parent, tag, loss, status=None, **session):
    averages = {"validation-valid": [{"loss": loss}]}
    return read_run(make_run(parent, tag, averages=averages, status=status or status_with(), **session))


def test_the_runs_of_a_group_that_differ_only_in_their_seed_are_found(tmp_path):
    run = make(tmp_path, "a", 0.5, group="widths", seed=1)
    make(tmp_path, "b", 0.25, group="widths", seed=2)
    make(tmp_path, "c", 0.75, group="widths", status=status_with(state="stopped"))  # its seed was drawn
    make(tmp_path, "other-rate", 9.0, group="widths", seed=3, learning_rate=0.5)
    make(tmp_path, "other-group", 9.0, group="rates", seed=4)
    make(tmp_path, "no-group", 9.0, seed=5)
    make(tmp_path, "failed", 9.0, group="widths", seed=6, status=status_with(state="failed"))
    make(tmp_path, "killed", 9.0, group="widths", seed=7, status=status_with(state="running"))
    make(tmp_path / "elsewhere", "d", 9.0, group="widths", seed=8)
    groups = SeedGroups()
    assert groups.values_of(run, "validation-valid", "loss") == [0.5, 0.25, 0.75]
    assert groups.values_of(run, "validation-valid", "accuracy") == []
    assert groups.damages == []


def test_each_seed_counts_once_by_its_newest_run_or_the_given_one(tmp_path):
    first = make(tmp_path, "a", 0.5, group="widths", seed=1)
    make(tmp_path, "b", 0.25, group="widths", seed=2)
    make(tmp_path, "c", 0.125, group="widths", seed=2)
    last = make(tmp_path, "d", 0.75, group="widths", seed=1)
    assert SeedGroups().values_of(first, "validation-valid", "loss") == [0.5, 0.125]
    assert SeedGroups().values_of(last, "validation-valid", "loss") == [0.75, 0.125]


def test_a_run_without_a_group_has_no_others(tmp_path):
    run = make(tmp_path, "a", 0.5, seed=1)
    make(tmp_path, "b", 0.25, seed=2)
    assert SeedGroups().values_of(run, "validation-valid", "loss") == []


def test_the_values_are_those_of_the_best_epochs(tmp_path):
    values = [{"loss": loss, "accuracy": 1 - loss} for loss in (0.5, 0.25, 0.75)]
    run = read_run(make_run(tmp_path, "a", averages={"validation-valid": values}, group="widths"))
    assert SeedGroups().values_of(run, "validation-valid", "accuracy") == [0.75]


def test_a_folder_that_can_not_be_listed_is_damage(tmp_path):
    run = make(tmp_path, "a", 0.5, group="widths")
    (tmp_path / "config.json").write_text("{}")  # the folder of the runs is a run directory itself
    groups = SeedGroups()
    assert groups.values_of(run, "validation-valid", "loss") == []
    assert "is a run directory, but a folder of run directories is expected" in groups.damages[0]


def test_the_spread_is_the_standard_deviation_of_a_sample():
    assert spread_of([]) is spread_of([1.0]) is spread_of([1.0, math.nan]) is None
    assert spread_of([1.0, 3.0]) == Spread(2.0, math.sqrt(2), 2, 0)
    assert spread_of([1.0, math.inf, 3.0, math.nan]) == Spread(2.0, math.sqrt(2), 2, 2)
