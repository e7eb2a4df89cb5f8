import json
from dataclasses import replace

import pytest

from torchbase.run_directory.fingerprint_differences import compare_fingerprints
from torchbase.run_directory.fingerprints import FingerprintFile, StateHashes, read_fingerprints
from torchbase.run_directory.hashed_parts import PartOfState, describe_names, different_names

NAMES = ("0.weight", "0.bias")


def part(*each, names=NAMES):
    return PartOfState(f"bits of {each}", tuple(names), b"".join(one.to_bytes(4) for one in each))


def state(iteration, network=(1, 2), optimizer=(3, 4), after="iteration", epochs_done=0, names=NAMES):
    parts = {"network": part(*network, names=names), "optimizer": part(*optimizer)}
    return StateHashes(iteration, epochs_done, after, f"{network} {optimizer} {names}", parts)


RUN = [
    state(0, after="start"),
    state(2),
    state(4, (5, 6)),
    state(4, (5, 6), after="epoch", epochs_done=1),
    state(6, (7, 8), epochs_done=1),
    state(7, (7, 9), after="run", epochs_done=1),
]


def write(folder, states, done=(0, 0), has_ended=False):
    file = FingerprintFile(folder, done, has_ended)
    for one in states:
        file.append(one)
    return file


def test_what_is_read_is_what_was_written(tmp_path):
    write(tmp_path, RUN)
    assert read_fingerprints(tmp_path) == (RUN, 0)


def test_a_run_without_fingerprints_has_none(tmp_path):
    assert read_fingerprints(tmp_path) == ([], 0)


def test_names_are_written_only_when_they_change(tmp_path):
    other = state(9, names=("0.weight", "head.bias"), epochs_done=2)
    write(tmp_path, [*RUN, other])
    lines = [json.loads(line) for line in (tmp_path / "fingerprints.jsonl").read_text().splitlines()]
    assert [list(line.get("names", {})) for line in lines] == [["network", "optimizer"], *[[]] * 5, ["network"]]
    assert read_fingerprints(tmp_path)[0][-1] == other


@pytest.mark.parametrize(
    ("done", "has_ended", "count"),
    [
        ((0, 0), False, 0),
        ((1, 0), False, 1),
        ((2, 0), False, 2),
        ((4, 0), False, 3),
        ((4, 1), False, 4),
        ((5, 1), False, 4),
        ((7, 1), False, 5),  # stopped, and trains on
        ((7, 1), True, 6),
    ],
)
def test_a_resumed_run_keeps_the_lines_until_its_checkpoint(tmp_path, done, has_ended, count):
    write(tmp_path, RUN)
    whole = (tmp_path / "fingerprints.jsonl").read_bytes()
    file = write(tmp_path, [], done, has_ended)
    assert read_fingerprints(tmp_path) == (RUN[:count], 0)
    assert set(file.removed) == {one.place for one in RUN[count:] if one.after != "run"}
    for one in RUN:
        file.append(one)  # those that are there aren't written twice
    assert (tmp_path / "fingerprints.jsonl").read_bytes() == whole


def test_an_incomplete_line_of_a_killed_process_is_removed(tmp_path):
    write(tmp_path, RUN[:3])
    whole = (tmp_path / "fingerprints.jsonl").read_bytes()
    (tmp_path / "fingerprints.jsonl").write_bytes(whole[:-5])
    assert read_fingerprints(tmp_path) == (RUN[:2], 0)
    write(tmp_path, RUN[2:3], (4, 0))
    assert (tmp_path / "fingerprints.jsonl").read_bytes() == whole


BEGIN = '{"iteration": 2, "epochs_done": 0, "bits": "", '


@pytest.mark.parametrize(
    "line",
    [
        "\0",
        "{}",
        "[1]",
        BEGIN + '"after": "lunch", "parts": {}}',
        BEGIN + '"after": "run", "parts": {"network": {"bits": "", "each": "A"}}}',
        BEGIN + '"after": "run", "parts": {"network": {"bits": "", "each": ""}}}',
    ],
)
def test_damaged_lines_are_counted_and_removed_from_the_end(tmp_path, line):
    write(tmp_path, RUN[:2])
    with (tmp_path / "fingerprints.jsonl").open("a") as file:
        file.write(f"{line}\n")
    assert read_fingerprints(tmp_path) == (RUN[:2], 1)
    write(tmp_path, RUN[2:3], (4, 0))
    assert read_fingerprints(tmp_path) == (RUN[:3], 0)


def test_equal_runs_have_no_difference():
    found = compare_fingerprints(RUN, RUN)
    assert (found.first_different, found.last_same, found.different) == (None, (7, "run"), {})
    assert found.parts == {"network", "optimizer"}


def test_the_first_difference_of_each_part_is_found():
    other = [*RUN[:2], state(4, (5, 99)), *RUN[3:4], state(6, (7, 8), (3, 77), epochs_done=1)]
    found = compare_fingerprints(RUN, other)
    assert found.last_same == (2, "iteration")
    assert found.first_different == (4, "iteration")
    assert found.different == {(4, "iteration"): ["network.0.bias"], (6, "iteration"): ["optimizer.0.bias"]}
    assert found.first_of_parts() == {"network": (4, "iteration"), "optimizer": (6, "iteration")}


def test_only_common_places_are_compared():
    found = compare_fingerprints(RUN, [state(3, (9, 9)), RUN[4]])
    assert found.common == [(6, "iteration")]
    assert found.first_different is None
    assert compare_fingerprints(RUN, [state(3)]).common == []


def test_values_that_one_run_has_alone_are_no_difference():
    names = ("0.weight", "1.bias")
    found = compare_fingerprints([state(2)], [state(2, names=names)])
    assert found.first_different is None
    assert (found.only_first, found.only_second) == (["network.0.bias"], ["network.1.bias"])
    assert different_names(state(2).parts, state(2, (8, 2), names=names).parts) == ["network.0.weight"]


def test_a_difference_that_the_short_hashes_do_not_show_is_one_of_the_part():
    one = state(2)
    other = replace(one, bits="other", parts={**one.parts, "network": replace(one.parts["network"], bits="other")})
    assert different_names(one.parts, other.parts) == ["network"]


def test_names_are_counted():
    assert describe_names(["network.2.weight"]) == "network.2.weight"
    assert describe_names([f"network.{number}" for number in range(1235)]) == "network.0 and 1,234 more"
