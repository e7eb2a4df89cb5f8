import torch
from tiny import CONFIG, TinySession

from torchbase.testing.outcomes import collect_outcome, find_differences, format_differences, select_names


def outcome_in(folder, **parts):
    session = TinySession(CONFIG, folder)
    session.unregister("console")
    summary = session()
    for name, content in parts.items():
        (session._run_directory.path / name).write_text(content)
    return collect_outcome(session, summary, {"count": torch.tensor(3)})


def test_two_runs_with_the_same_seed_have_the_same_outcome(tmp_path):
    first, second = outcome_in(tmp_path), outcome_in(tmp_path)
    assert find_differences(first, second, set(first) - {"files"}) == []
    assert "votes.jsonl" in first["files"]
    assert not {"config.json", "environment.json", "network.pth", ".lock"} & set(first["files"])
    assert first["averages"].keys() == {"training/loss", "validation-valid/loss", "validation-demo/loss"}
    assert first["steps"]["training/loss/iterations"] == list(range(1, 11))
    assert first["progress"] == {"epochs done": 2}


def test_each_value_that_differs_or_is_missing_is_found(tmp_path):
    first, second = outcome_in(tmp_path), outcome_in(tmp_path, notes="mine")
    second["network"]["layers.0.bias"] = second["network"]["layers.0.bias"] + 1
    del second["averages"]["training/loss"]
    found = find_differences(first, second)
    assert found[:2] == [("network", "layers.0.bias"), ("averages", "training/loss")]
    assert ("files", "notes") in found
    assert {part for part, _ in found[2:]} == {"files"}  # some files of torchbase contain a time
    assert find_differences(first, second, ["averages"]) == [("averages", "training/loss")]
    assert "notes" not in select_names(second, first)["files"]


def test_differences_are_formatted_by_part():
    found = [("network", "a"), ("network", "b"), ("network", "c"), ("loss", ""), ("files", "votes.jsonl")]
    assert format_differences(found) == "network (a, b and 1 more), loss, files (votes.jsonl)"
