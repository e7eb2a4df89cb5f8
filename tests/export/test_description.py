import json

import pytest

from torchbase.export.description import describe
from torchbase.run_directory.record import Epoch, append_epoch
from torchbase.session.saved_network import ReadNetwork


def make_run(folder, decisions, state="running", checkpoint=None):
    """Two sets, of which one runs within epochs, too; each epoch has ten iterations."""
    (folder / "config.json").write_text(json.dumps({"session": {"num_epochs": 3}}))
    lines = [
        json.dumps({"epoch": epoch, "iteration": iteration, "is_best": best}) for epoch, iteration, best in decisions
    ]
    (folder / "votes.jsonl").write_text("".join(f"{line}\n" for line in lines))
    for epoch in (1, 2):
        end = 10 * epoch
        for phase, iteration in (("valid", end - 5), ("training", end), ("valid", end), ("test", end)):
            append_epoch(folder, Epoch(epoch, phase, iteration, {"loss": float("nan") if epoch == 2 else iteration}))
    progress = {"epochs_done": 2, "max_epochs": 3, "iterations": 20, "best_losses": {}}
    when = dict.fromkeys(("started_at", "resumed_at", "updated_at"), "2026-11-30T12:00:00+00:00")
    status = {"format_version": 1, "state": state, "reason": None, **progress, **when, "process_id": 1, "host": "h"}
    (folder / "status.json").write_text(json.dumps(status))
    if checkpoint is not None:
        (folder / "states" / checkpoint).mkdir(parents=True)
    return folder


UNKNOWN = ReadNetwork({})
NEWEST = "checkpoint-epoch-000002-iteration-0000000020"


@pytest.mark.parametrize(
    ("decisions", "epoch", "averages"),
    [
        ([(1, 10, True), (2, 20, False)], 1, {"training": 10.0, "valid": 10.0, "test": 10.0}),
        ([(1, 5, True), (1, 10, False)], 1, {"valid": 5.0}),  # within the epoch
        ([(1, 10, True), (2, 20, True)], 2, {"training": "nan", "valid": "nan", "test": "nan"}),
        ([], 2, {"training": "nan", "valid": "nan", "test": "nan"}),  # no set votes
    ],
)
def test_the_values_are_those_of_the_decision_that_saved_the_best_network(tmp_path, decisions, epoch, averages):
    described = describe(make_run(tmp_path, decisions, "finished"), "best", UNKNOWN)
    assert described["epoch"] == epoch
    assert described["averages"] == {phase: {"loss": loss} for phase, loss in averages.items()}


@pytest.mark.parametrize(("checkpoint", "is_known"), [(NEWEST, True), (None, False)])
def test_a_killed_run_names_its_best_epoch_if_a_later_checkpoint_shows_that_it_was_saved(
    tmp_path, caplog, checkpoint, is_known
):
    described = describe(make_run(tmp_path, [(2, 20, True)], checkpoint=checkpoint), "best", UNKNOWN)
    assert described["epoch"] == (2 if is_known else None)
    assert bool(described["averages"]) == is_known
    assert ["the file names no epoch" in message for message in caplog.messages] == ([] if is_known else [True])


def test_the_last_network_has_the_values_of_the_last_whole_epoch(tmp_path):
    described = describe(make_run(tmp_path, []), "last", ReadNetwork({}, 1, 13))
    assert (described["epoch"], described["iterations"]) == (1, 13)
    assert described["averages"]["training"] == {"loss": 10.0}
