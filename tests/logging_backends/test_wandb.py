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

# W&B causes these warnings.
pytestmark = [pytest.mark.filterwarnings(f"ignore::{name}") for name in ("DeprecationWarning", "ResourceWarning")]


def files_of(folder):
    return sorted(Path(folder).glob("wandb/*run-*/*.wandb"))


def rows_of(folder):
    return [row for path in files_of(folder) for row in WandbFile(path).new_rows()]


def records_of(path, kind):
    from wandb.proto.wandb_internal_pb2 import Record

    file = WandbFile(path)
    records = [Record.FromString(content) for content in file._new_records()]
    return [getattr(record, kind) for record in records if record.WhichOneof("record_type") == kind]


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
    axes = {metric.name: metric.step_metric for metric in records_of(file, "metric")}
    assert axes["training/loss/iterations"] == "steps/iterations"
    assert axes["training/loss/epochs"] == "steps/epochs"
    items = records_of(file, "config")[-1].update
    config = {item.key or item.nested_key[0]: item.value_json for item in items}
    assert config["session.learning_rate"] == "0.05"


def test_a_resumed_run_is_one_run_of_wandb_with_increasing_rows(tmp_path):
    stopped = new_session(tmp_path, StopAt(7))
    stopped()
    new_session(tmp_path, create_run_dir_afresh=False, source_run_dir_tag=Path(stopped.run_dir).name)()
    files = files_of(stopped.run_dir)
    assert len(files) == 2
    assert {path.name for path in files} == {f"run-{Path(stopped.run_dir).name}.wandb"}
    numbers = [row["_step"] for row in rows_of(stopped.run_dir)]
    assert numbers == list(range(len(numbers)))
    steps = [row["steps/iterations"] for row in rows_of(stopped.run_dir) if "training/loss/iterations" in row]
    assert steps == list(range(1, 11))


def test_it_works_without_a_run_directory(tmp_path, monkeypatch):
    wandb.teardown()  # W&B reads WANDB_DIR once per process
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    run = Run(training=Phase("training", [1.0, 2.0], is_training=True), max_epochs=1)
    Engine(lambda run, phase, batch: run.log("v", batch), hooks=[LogValues(), Wandb(mode="offline")]).run(run)
    assert [row["training/v/iterations"] for row in rows_of(tmp_path)] == [1.0, 2.0]


def test_a_missing_login_is_logged_once_and_the_training_continues(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("WANDB_API_KEY", "too short")
    session = TinySession(CONFIG, tmp_path)
    session.register(Wandb(mode="online"))
    with caplog.at_level(logging.WARNING, "torchbase"):
        assert session().epochs_done == 2
    (warning,) = [record.message for record in caplog.records if record.name == "torchbase"]
    assert warning.startswith(
        "wandb can't write to the project 'torchbase' of W&B, so some values will be missing there"
    )
