"""The same run gives the same in each backend, read back by its own reader, also when it was stopped or killed."""

import contextlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import conforming
import numpy as np
import pytest
from conforming import BACKENDS, INSTALLED, Truth, session_with_all_backends
from tiny import CONFIG, StopAt, TinySession

from torchbase.hooks import JsonLines
from torchbase.logging_backends.base import LoggingBackend
from torchbase.logging_backends.records import Scalars

# Of what MLflow and W&B use themselves.
pytestmark = [pytest.mark.filterwarnings(f"ignore::{one}") for one in ("DeprecationWarning", "ResourceWarning")]
TESTS = Path(__file__).parents[1]


def whole(parent):
    return session_with_all_backends(parent)()


def with_workers(parent):
    return session_with_all_backends(parent, workers=2)()


def stopped_in_training(parent):
    session_with_all_backends(parent, StopAt(8))()
    return session_with_all_backends(parent)()


def stopped_in_validation(parent):
    session_with_all_backends(parent, StopAt(4, "validation-valid"))()
    return session_with_all_backends(parent)()


def killed(parent):
    """Killed in training, behind a checkpoint; then in a validation; then let go on to its end."""
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}  # of this process
    for phase, iteration in (("training", 7), ("validation-valid", 8)):
        command = [sys.executable, conforming.__file__, str(parent), phase, str(iteration)]
        paths = os.pathsep.join([str(TESTS), *sys.path])
        life = subprocess.run(command, env={**environment, "PYTHONPATH": paths}, capture_output=True, text=True)
        assert life.returncode == -signal.SIGKILL, life.stderr
    return session_with_all_backends(parent)()


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    """What a run tells that is never stopped."""
    truth = Truth()
    parent = tmp_path_factory.mktemp("truth")
    with contextlib.chdir(parent):
        session_with_all_backends(parent, truth)()
    truth.log["hparams"].pop("session.dataloader_num_workers")
    return truth.log


@pytest.fixture(scope="module", params=[whole, with_workers, stopped_in_training, stopped_in_validation, killed])
def run_dir(request, tmp_path_factory):
    parent = tmp_path_factory.mktemp(request.param.__name__)
    with contextlib.chdir(parent):  # MLflow puts its files there
        return request.param(parent).run_dir


def rounded(log):
    """TensorBoard keeps 32 bits of a number."""
    scalars = log["scalars"].items()
    return {**log, "scalars": {tag: [(step, float(np.float32(value))) for step, value in one] for tag, one in scalars}}


def without_nan(log):
    """NaN isn't equal to itself."""
    scalars = log["scalars"].items()
    return {
        **log,
        "scalars": {tag: [(step, "NaN" if math.isnan(one) else one) for step, one in curve] for tag, curve in scalars},
    }


def as_mlflow_has_it(log):
    """Its names have no commas and quotes, its database no infinity, its parameters are texts."""
    names = {tag: re.sub('[,"]', "_", tag) for tag in log["scalars"]}
    highest = sys.float_info.max
    scalars = {
        names[tag]: [(step, max(min(one, highest), -highest) if one == one else one) for step, one in curve]
        for tag, curve in log["scalars"].items()
    }
    return {**log, "scalars": scalars, "hparams": {name: str(value) for name, value in log["hparams"].items()}}


AS_KEPT = {"tensorboard": rounded, "mlflow": as_mlflow_has_it}


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_backend_has_each_step_once_and_all_that_it_keeps(run_dir, truth, backend):
    if backend not in INSTALLED:
        pytest.skip(f"{backend} isn't installed; nox -s backends installs it")
    log = BACKENDS[backend][1](run_dir)
    if "hparams" in log:
        log["hparams"].pop("session.dataloader_num_workers")  # the only one in which the runs differ
    if backend in ("mlflow", "wandb"):  # no server takes back what a run that was stopped told at its end
        log["scalars"] = {tag: one[-1:] if "best_loss" in tag else one for tag, one in log["scalars"].items()}
    expected = AS_KEPT.get(backend, dict)({kind: truth[kind] for kind in log})
    assert without_nan(log) == without_nan(expected)


def test_the_run_has_something_of_every_kind(truth):
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
    """Loses its server after some records: from then on each write fails, or hangs."""

    seconds_of_patience = 0.2

    def __init__(self, dies, after=20):
        self.dies, self.after, self.taken = dies, after, []

    def write(self, record):
        if len(self.taken) >= self.after:
            self.dies()
        self.taken.append(record)


@pytest.mark.parametrize("hangs", [True, False])
def test_a_backend_whose_server_dies_lacks_only_what_that_could_not_take(tmp_path, caplog, hangs):
    may_end = threading.Event()

    def die():
        may_end.wait(20)
        raise ConnectionError("gone")

    if not hangs:
        may_end.set()
    dying = Dying(die)
    session = TinySession(CONFIG, tmp_path)
    session.register(dying)
    session.register(JsonLines())
    began_at = time.monotonic()
    assert session().epochs_done == 2
    assert time.monotonic() - began_at < 10
    may_end.set()
    scalars = [one for one in dying.taken if isinstance(one, Scalars)]
    taken = [(tag, one.step, value) for one in scalars for tag, value in one.values.items()]
    lines = [json.loads(line) for line in Path(session.run_dir, "log.jsonl").read_text().splitlines()]
    written = [(line["tag"], line["step"], line["value"]) for line in lines if line["kind"] == "scalar"]
    assert taken == written[: len(taken)]
    assert len(taken) == dying.after - 1  # one record was the charts
    assert len(written) > 25
    (told,) = [one for one in caplog.messages if one.startswith("dying")]
    assert ("TimeoutError" if hangs else "ConnectionError: gone") in told
