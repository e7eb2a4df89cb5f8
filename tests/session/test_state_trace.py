"""The trace of a replay: what it has, and that it changes nothing."""

from pathlib import Path

import pytest
import torch
from every_technique import session_with, training_differences
from several import run as run_processes

from torchbase.data.parts import MiniBatchPart, SplitMiniBatch
from torchbase.run_directory.fingerprints import read_fingerprints
from torchbase.run_directory.replays import ReplayOrders
from torchbase.run_directory.traces import read_trace
from torchbase.session.state_trace import StateTrace, rows_of


def orders_of(folder, until=(10, "iteration"), traced=(0, 0)):
    folder.mkdir(parents=True, exist_ok=True)
    return ReplayOrders(folder, folder, folder, until, *traced)


def traced(folder, until=(10, "iteration"), traced=(0, 0), **settings):
    session = session_with(
        folder / "runs", StateTrace(orders_of(folder / "records", until, traced)), dropout=0.3, **settings
    )
    summary = session()
    return session, summary, folder / "records"


def test_the_steps_of_an_iteration_are_traced_and_nothing_changes(tmp_path):
    session, _, records = traced(tmp_path / "traced", traced=(7, 8))
    steps = read_trace(records / "trace.jsonl")
    calls = [(one.hook, one.event) for one in steps if one.iteration == 7]
    assert calls[0] == ("", "on_iteration_start")
    events = ["run_forward", "run_backward", "run_optimizer_step", "run_iteration"]
    assert [event for hook, event in calls if hook == "training_step"] == events
    assert ("checkpoint", "on_iteration_end") in calls
    assert {one.iteration for one in steps} == {7, 8}
    assert list(steps[0].parts) == ["mini-batch", "network", "optimizer"]
    assert set(steps[0].parts["mini-batch"].names) >= {"x[0]", "x[3]", "y[0]"}
    by_call = {one.call[1:]: one for one in steps if one.iteration == 7}
    assert "loss" in by_call["training_step", "run_forward"].parts["outputs"].names
    assert by_call["training_step", "run_forward"].parts["gradients"].names == ()
    assert len(by_call["training_step", "run_backward"].parts["gradients"].names) == 6
    plain = session_with(tmp_path / "plain", dropout=0.3)
    plain()
    assert training_differences(session, plain) == []


@pytest.mark.parametrize(
    ("until", "last"),
    [((7, "iteration"), (7, "iteration")), ((5, "epoch"), (5, "epoch")), ((7, "run"), (7, "iteration"))],
)
def test_each_iteration_has_a_fingerprint_until_the_replay_ends(tmp_path, until, last):
    _, summary, records = traced(tmp_path, until)
    places = [one.place for one in read_fingerprints(records)[0]]
    assert places[:3] == [(0, "start"), (1, "iteration"), (2, "iteration")]
    assert places[-1] == last
    assert summary.iterations == last[0]
    assert not (records / "trace.jsonl").exists()


def test_a_run_that_ends_with_an_epoch_is_replayed_to_its_end(tmp_path):
    _, summary, records = traced(tmp_path, (10, "run"))
    assert read_fingerprints(records)[0][-1].place == (10, "epoch")
    assert summary.epochs_done == 2


def test_mini_batches_of_any_form_have_rows():

    x = torch.arange(6.0).reshape(3, 2)
    assert dict(rows_of({"name": ["a", "b"]})) == {"name[0]": "a", "name[1]": "b"}
    assert list(dict(rows_of((x, torch.tensor(1.0))))) == ["0[0]", "0[1]", "0[2]", "1"]
    assert list(dict(rows_of(x))) == ["value[0]", "value[1]", "value[2]"]
    assert list(dict(rows_of({"x": torch.zeros(5000)}))) == ["x"]
    parts = SplitMiniBatch((MiniBatchPart(0, {"x": x[:1]}), MiniBatchPart(1, {"x": x[1:]})))
    assert list(dict(rows_of(parts))) == ["part 0 x[0]", "part 1 x[0]", "part 1 x[1]"]


def train_on_two(_, folder):
    traced(Path(folder), mini_batch_size=8, drop_last=True, mini_batch_parts=2)


def test_several_processes_are_refused(tmp_path):
    ended = run_processes(2, train_on_two, tmp_path)
    assert "A replay trains on one process, and this program has 2." in str(ended[0].error)
