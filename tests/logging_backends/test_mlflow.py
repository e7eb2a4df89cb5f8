"""Needs MLflow: nox -s backends installs it."""

import json
import logging
import os
from pathlib import Path

import pytest
from tiny import CONFIG, StopAt, TinySession, config_with

from torchbase import Engine, Phase, Run, hookimpl
from torchbase.hooks import LogValues, MLflow

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
mlflow = pytest.importorskip("mlflow")

# MLflow causes these warnings.
pytestmark = [pytest.mark.filterwarnings(f"ignore::{name}") for name in ("DeprecationWarning", "ResourceWarning")]


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """A database, which takes seconds to create; each test has its own experiment in it."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def runs_of(database, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def runs_of(experiment):
        client = mlflow.MlflowClient(database)
        return client, client.search_runs([client.get_experiment_by_name(experiment).experiment_id])

    return runs_of


def new_session(tmp_path, backend, *hooks, **session):
    session = TinySession(config_with(on_logging_error="raise", **session), tmp_path)
    session.unregister("tensorboard")
    for hook in (backend, *hooks):
        session.register(hook)
    return session


def resume(session, backend, **changed):
    directory = Path(session.run_dir)
    config = config_with(on_logging_error="raise", **changed)
    resumed = TinySession(config, directory.parent, create_run_dir_afresh=False, source_run_dir_tag=directory.name)
    resumed.unregister("tensorboard")
    resumed.register(backend)
    return resumed


def test_a_resumed_run_is_one_run_of_mlflow_and_a_changed_value_is_a_tag(tmp_path, database, runs_of):
    session = new_session(tmp_path, MLflow(database, "resumed"), StopAt(8))
    session()
    resume(session, MLflow(database, "resumed"), num_epochs=3)()
    client, (run,) = runs_of("resumed")
    assert json.loads(Path(session.run_dir, "mlflow.json").read_text()) == {
        "tracking_uri": database,
        "run_id": run.info.run_id,
    }
    assert run.info.run_name == Path(session.run_dir).name
    assert run.info.status == "FINISHED"
    assert run.data.params["session.num_epochs"] == "2"
    assert run.data.tags["session.num_epochs"] == "3"
    assert "session.learning_rate" not in run.data.tags
    history = client.get_metric_history(run.info.run_id, "training/loss/iterations")
    assert sorted(metric.step for metric in history) == list(range(1, 16))


def test_another_server_gets_a_new_run(tmp_path, database, runs_of):
    session = new_session(tmp_path, MLflow(database, "first"))
    session()
    Path(session.run_dir, "mlflow.json").write_text('{"tracking_uri": "elsewhere", "run_id": "unknown"}')
    resume(session, MLflow(database, "second"), num_epochs=3)()
    client, (run,) = runs_of("second")
    history = client.get_metric_history(run.info.run_id, "training/loss/iterations")
    assert sorted(metric.step for metric in history) == list(range(11, 16))


@pytest.mark.parametrize(("error", "status"), [(KeyError("lost"), "FAILED"), (KeyboardInterrupt(), "KILLED")])
def test_mlflow_records_how_the_run_ended(tmp_path, database, runs_of, error, status):
    class Fails:
        @hookimpl
        def on_epoch_end(self):
            raise error

    with pytest.raises(type(error)):
        new_session(tmp_path, MLflow(database, status), Fails())()
    _, (run,) = runs_of(status)
    assert run.info.status == status


def test_many_numbers_are_sent_in_several_requests_and_names_are_adapted(tmp_path, database, runs_of):
    def step(run, phase, batch):
        run.call.log_scalars(run=run, scalars={"a, b": float(batch)}, step=batch)

    run = Run(training=Phase("training", range(2500), is_training=True), max_epochs=1)
    Engine(step, hooks=[MLflow(database, "many")]).run(run)
    client, (recorded,) = runs_of("many")
    history = client.get_metric_history(recorded.info.run_id, "a_ b")
    assert sorted((metric.step, metric.value) for metric in history) == [(step, float(step)) for step in range(2500)]


def test_the_default_server_is_the_one_that_mlflow_is_set_to(tmp_path, database, runs_of, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    new_session(tmp_path, MLflow(experiment="by the environment"))()
    _, runs = runs_of("by the environment")
    assert len(runs) == 1


def test_a_missing_server_is_logged_once_and_the_training_continues(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    session = TinySession(CONFIG, tmp_path)
    session.register(MLflow("http://127.0.0.1:9"))
    with caplog.at_level(logging.WARNING, "torchbase"):
        assert session().epochs_done == 2
    (warning,) = [record.message for record in caplog.records if record.name == "torchbase"]
    assert warning.startswith(
        "mlflow can't write to MLflow at http://127.0.0.1:9, so some values will be missing there"
    )


def test_a_tag_can_not_leave_its_folder(tmp_path, database, runs_of):
    class LogTexts:
        @hookimpl
        def on_run_end(self, run):
            for tag in ("../../out", "a//b", "..", "/"):
                run.call.log_text(run=run, tag=tag, text="x", step=1)

    new_session(tmp_path, MLflow(database, "paths"), LogTexts())()
    _, (run,) = runs_of("paths")
    folder = Path(run.info.artifact_uri)
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*.md")}
    assert names == {f"texts/{tag}/0000000001.md" for tag in ("__/__/out", "a/b", "__", "_")}


def test_other_loggers_are_not_changed(tmp_path, database, runs_of, caplog):
    new_session(tmp_path, MLflow(database, "loggers"))()
    with caplog.at_level(logging.WARNING, "torchbase"):
        logging.getLogger("torchbase").warning("a warning")
    assert "a warning" in caplog.messages
    run = Run(training=Phase("training", [1], is_training=True), max_epochs=1)
    Engine(lambda run, phase, batch: run.log("v", 1.0), hooks=[LogValues(), MLflow(database, "loggers")]).run(run)
    _, runs = runs_of("loggers")
    assert len(runs) == 2
