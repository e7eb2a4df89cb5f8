"""Needs Weights & Biases: nox -s backends installs it."""

import logging
import os
from pathlib import Path

import pytest
from tiny import CONFIG, StopAt, TinySession, config_with

from torchbase import Engine, Phase, Run
from torchbase.hooks import LogValues, Wandb
from torchbase.logging_backends.wandb_file import WandbFile

os.environ["WANDB_ERROR_REPORTING"] = "false"
wandb = pytest.importorskip("wandb")

# Of what W&B uses itself.
pytestmark = [pytest.mark.filterwarnings(f"ignore::{one}") for one in ("DeprecationWarning", "ResourceWarning")]


def files_of(folder):
    return sorted(Path(folder).glob("wandb/*run-*/*.wandb"))


def rows_of(folder):
    return [row for path in files_of(folder) for row in WandbFile(path).new_rows()]


def records_of(path, kind):
    from wandb.proto.wandb_internal_pb2 import Record

    file = WandbFile(path)
    records = [Record.FromString(content) for content in file._new_records()]
    return [getattr(one, kind) for one in records if one.WhichOneof("record_type") == kind]


def new_session(tmp_path, *hooks, **arguments):
    session = TinySession(config_with(on_logging_error="raise"), tmp_path, **arguments)
    session.unregister("tensorboard")
    for hook in (Wandb(mode="offline"), *hooks):
        session.register(hook)
    return session


def test_each_curve_has_its_own_steps_on_its_own_axis(tmp_path):
    session = new_session(tmp_path)
    session()
    rows = rows_of(session.run_dir)
    assert [row["_step"] for row in rows] == list(range(len(rows)))
    for phase, last in (("training", 10), ("validation-valid", 6)):
        steps = [row["steps/iterations"] for row in rows if f"{phase}/loss/iterations" in row]
        assert steps == list(range(1, last + 1))
    assert [row["steps/epochs"] for row in rows if "training/loss/epochs" in row] == [1, 2]
    (file,) = files_of(session.run_dir)
    axes = {one.name: one.step_metric for one in records_of(file, "metric")}
    assert axes["training/loss/iterations"] == "steps/iterations"
    assert axes["training/loss/epochs"] == "steps/epochs"
    config = {one.key or one.nested_key[0]: one.value_json for one in records_of(file, "config")[-1].update}
    assert config["session.learning_rate"] == "0.05"


def test_a_run_that_goes_on_is_one_run_of_wandb_with_growing_rows(tmp_path):
    begun = new_session(tmp_path, StopAt(7))
    begun()
    again = new_session(tmp_path, create_run_dir_afresh=False, source_run_dir_tag=Path(begun.run_dir).name)
    again()
    files = files_of(begun.run_dir)
    assert len(files) == 2
    assert {path.name for path in files} == {f"run-{Path(begun.run_dir).name}.wandb"}
    numbers = [row["_step"] for row in rows_of(begun.run_dir)]
    assert numbers == list(range(len(numbers)))
    steps = [row["steps/iterations"] for row in rows_of(begun.run_dir) if "training/loss/iterations" in row]
    assert steps == list(range(1, 11))


def test_it_works_without_a_run_directory(tmp_path, monkeypatch):
    wandb.teardown()  # W&B looks once a process at where its files are to be
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    run = Run(training=Phase("training", [1.0, 2.0], is_training=True), max_epochs=1)
    Engine(lambda run, phase, batch: run.log("v", batch), hooks=[LogValues(), Wandb(mode="offline")]).run(run)
    assert [row["training/v/iterations"] for row in rows_of(tmp_path)] == [1.0, 2.0]


def test_without_a_login_it_is_told_once_and_the_training_goes_on(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("WANDB_API_KEY", "too short")
    session = TinySession(CONFIG, tmp_path)
    session.register(Wandb(mode="online"))
    with caplog.at_level(logging.WARNING, "torchbase"):
        assert session().epochs_done == 2
    (told,) = [one.message for one in caplog.records if one.name == "torchbase"]
    assert told.startswith("wandb can't write to the project 'torchbase' of W&B, so some values will be missing there")
