"""Every backend has the same values for the same run, also if the run was stopped or killed."""

import contextlib
import json
import math
import os
import re
import signal
import sys
import threading
from pathlib import Path

import conforming
import numpy as np
import pytest
from conforming import BACKENDS, INSTALLED, Truth, session_with_all_backends
from tiny import CONFIG, StopAt, TinySession

from torchbase import hookimpl
from torchbase.hooks import JsonLines
from torchbase.logging_backends.base import LoggingBackend
from torchbase.logging_backends.records import Scalars

# MLflow and W&B cause these warnings.
pytestmark = [pytest.mark.filterwarnings(f"ignore::{name}") for name in ("DeprecationWarning", "ResourceWarning")]


def uninterrupted(parent, programs):
    return session_with_all_backends(parent)()


def with_workers(parent, programs):
    return session_with_all_backends(parent, workers=2)()


def stopped_in_training(parent, programs):
    session_with_all_backends(parent, StopAt(8))()
    return session_with_all_backends(parent)()


def stopped_in_validation(parent, programs):
    session_with_all_backends(parent, StopAt(4, "validation-valid"))()
    return session_with_all_backends(parent)()


def killed(parent, programs):
    """Kills a run in training, after a checkpoint; then in a validation; then resumes it to its end."""
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}  # of this process only
    for phase, iteration in (("training", 7), ("validation-valid", 8)):
        done = programs.run(conforming.__file__, parent, phase, iteration, env=environment)
        assert done.returncode == -signal.SIGKILL, done.stderr
    return session_with_all_backends(parent)()


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    """What an uninterrupted run logs."""
    truth = Truth()
    parent = tmp_path_factory.mktemp("truth")
    with contextlib.chdir(parent):
        session_with_all_backends(parent, truth)()
    truth.log["hparams"].pop("session.dataloader_num_workers")
    return truth.log


@pytest.fixture(
    scope="module", params=[uninterrupted, with_workers, stopped_in_training, stopped_in_validation, killed]
)
def run_dir(request, programs, tmp_path_factory):
    parent = tmp_path_factory.mktemp(request.param.__name__)
    with contextlib.chdir(parent):  # MLflow writes its files there
        return request.param(parent, programs).run_dir


def in_single_precision(log):
    """Rounds numbers as TensorBoard does, which stores 32 bits."""
    curves = log["scalars"].items()
    return {
        **log,
        "scalars": {tag: [(step, float(np.float32(value))) for step, value in curve] for tag, curve in curves},
    }


def without_nan(log):
    """Replaces NaN, which isn't equal to itself."""
    curves = log["scalars"].items()
    return {
        **log,
        "scalars": {
            tag: [(step, "NaN" if math.isnan(value) else value) for step, value in curve] for tag, curve in curves
        },
    }


def as_mlflow_stores_it(log):
    """Its names have no commas and quotes, its database has no infinity, its parameters are texts."""
    names = {tag: re.sub('[,"]', "_", tag) for tag in log["scalars"]}
    highest = sys.float_info.max
    scalars = {
        names[tag]: [
            (step, value if math.isnan(value) else max(min(value, highest), -highest)) for step, value in curve
        ]
        for tag, curve in log["scalars"].items()
    }
    return {**log, "scalars": scalars, "hparams": {name: str(value) for name, value in log["hparams"].items()}}


AS_STORED = {"tensorboard": in_single_precision, "mlflow": as_mlflow_stores_it}


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_backend_has_each_step_once(run_dir, truth, backend):
    if backend not in INSTALLED:
        pytest.skip(f"{backend} isn't installed; nox -s backends installs it")
    log = BACKENDS[backend][1](run_dir)
    if "hparams" in log:
        log["hparams"].pop("session.dataloader_num_workers")  # the only value in which the runs differ
    if backend in ("mlflow", "wandb"):  # a server can't remove what a stopped run logged at its end
        log["scalars"] = {tag: curve[-1:] if "best_loss" in tag else curve for tag, curve in log["scalars"].items()}
    expected = AS_STORED.get(backend, dict)({kind: truth[kind] for kind in log})
    assert without_nan(log) == without_nan(expected)


def test_the_run_logs_every_kind_of_record(truth):
    assert set(truth["scalars"]) >= {
        "training/loss/iterations",
        "training/largest/iterations",
        "training/absolute_error/iterations",
        "training/absolute_error/epochs",
        "validation-valid/loss/epochs",
        "validation-valid/best_loss/epochs",
        "exact",
    }
    assert [step for step, _ in truth["scalars"]["training/loss/iterations"]] == list(range(1, 16))
    assert set(truth["images"]) == {"some/picture", "plot"}
    assert truth["texts"].keys() == {"note"}
    assert truth["histograms"].keys() == {"weights"}
    assert truth["hparams"]["session.learning_rate"] == 0.05


class Dying(LoggingBackend):
    """Loses its server after some records: from then on each write fails or hangs."""

    def __init__(self, die, after=8):
        self.die, self.after, self.written = die, after, []

    def write(self, record):
        if len(self.written) >= self.after:
            self.die()
        self.written.append(record)


class WaitUntilItDied:
    """Lets the training wait for the failure: on a busy machine the backend may count as stuck before it."""

    def __init__(self):
        self.died = threading.Event()

    @hookimpl(tryfirst=True)
    def on_epoch_end(self):
        assert self.died.wait(60)


@pytest.mark.parametrize("hangs", [True, False])
def test_a_backend_whose_server_dies_lacks_only_later_values(tmp_path, caplog, hangs):
    waits, may_end = WaitUntilItDied(), threading.Event()

    def die():
        waits.died.set()
        if hangs:
            may_end.wait(60)
        raise ConnectionError("gone")

    dying = Dying(die)
    if hangs:
        dying.seconds_of_patience = 0.2
    session = TinySession(CONFIG, tmp_path)
    for hook in (dying, JsonLines(), waits):
        session.register(hook)
    assert session().epochs_done == 2
    may_end.set()
    scalars = [record for record in dying.written if isinstance(record, Scalars)]
    written = [(tag, record.step, value) for record in scalars for tag, value in record.values.items()]
    lines = [json.loads(line) for line in Path(session.run_dir, "log.jsonl").read_text().splitlines()]
    expected = [(line["tag"], line["step"], line["value"]) for line in lines if line["kind"] == "scalar"]
    assert written == expected[: len(written)]
    assert len(written) == dying.after - 1  # one of the records is the chart layout
    assert len(expected) > 25
    (warning,) = [message for message in caplog.messages if message.startswith("dying")]
    assert ("TimeoutError" if hangs else "ConnectionError: gone") in warning
