import pytest
import torch
from tiny import TinySession, config_with

from torchbase import Engine, Phase, Run, hookimpl
from torchbase.hooks import LogValues


class Backend:
    def __init__(self):
        self.scalars, self.hparams, self.metrics = [], {}, {}

    @hookimpl
    def log_scalars(self, scalars, step):
        self.scalars.extend((tag, step, value) for tag, value in scalars.items())

    @hookimpl
    def log_hparams(self, hparams, metrics):
        self.hparams, self.metrics = hparams, metrics


def test_every_nth_iteration_from_the_first_is_logged_at_its_own_step():
    backend = Backend()
    run = Run(training=Phase("training", range(5), is_training=True), max_epochs=2)
    Engine(lambda run, phase, batch: run.log("v", float(batch)), hooks=[LogValues("3it"), backend]).run(run)
    assert backend.scalars == [
        ("training/v/iterations", step, value) for step, value in ((1, 0), (4, 3), (7, 1), (10, 4))
    ]


def test_averages_hyperparameters_and_best_losses_are_logged(tmp_path):
    session, backend = TinySession(config_with(), tmp_path), Backend()
    session.register(backend)
    summary = session()
    epochs = [entry for entry in backend.scalars if entry[0] == "validation-valid/loss/epochs"]
    assert [step for _, step, _ in epochs] == [1, 2]
    assert epochs[1][2] == summary.averages["validation-valid"]["loss"]
    assert backend.hparams["session.learning_rate"] == 0.05
    assert backend.hparams["network.architecture"] == "TinyNetwork"
    assert backend.metrics["validation-valid/best_loss/epochs"] == summary.best_losses["validation-valid"].loss


def test_values_before_an_error_are_logged():
    def step(run, phase, batch):
        run.log("v", torch.tensor(float(batch)))
        if batch == 3:
            raise KeyError

    backend = Backend()
    with pytest.raises(KeyError):
        Engine(step, hooks=[LogValues(), backend]).run(
            Run(training=Phase("training", range(5), is_training=True), max_epochs=1)
        )
    assert [value for _, _, value in backend.scalars] == [0, 1, 2]
