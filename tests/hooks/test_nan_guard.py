import math
from pathlib import Path

import pytest
import torch
from tiny import CONFIG, TinySession, config_with, read_scalars

from torchbase import Engine, Phase, Run
from torchbase.errors import NonFiniteError
from torchbase.hooks import NanGuard


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_error_names_the_iteration_of_the_first_bad_loss(bad):
    def step(run, phase, batch):
        run.log("loss", torch.tensor(bad if run.progress.iterations >= 13 else 1.0))

    run = Run(training=Phase("training", range(10), is_training=True), max_epochs=3)
    with pytest.raises(
        NonFiniteError, match=r"in training: epoch 2, iteration 14 \(mini-batch 4 of the epoch\)"
    ) as error:
        Engine(step, hooks=[NanGuard()]).run(run)
    assert error.value.__notes__[0] == "in the hook 'nan_guard', at on_values_read"


def test_other_values_may_be_nan():
    run = Run(training=Phase("training", range(3), is_training=True), max_epochs=1)
    Engine(lambda run, phase, batch: run.log("roc_auc", math.nan), hooks=[NanGuard()]).run(run)
    assert run.epochs_done == 1


class Exploding(TinySession):
    def loss_function(self, *, output, target):
        loss = super().loss_function(output=output, target=target)
        return loss * math.nan if self.explodes() else loss


def test_no_checkpoint_is_written_after_a_nan_loss(tmp_path):
    class Late(Exploding):
        iterations = 0

        def explodes(self):
            self.iterations += self.network.training
            return self.iterations >= 7

    session = Late(config_with(checkpoint_every_n_iterations=1), tmp_path)
    session.unregister("rehearsal")  # which would be counted, too
    with pytest.raises(NonFiniteError, match="epoch 2, iteration 7"):
        session()
    names = sorted(path.name for path in (Path(session.run_dir) / "states").glob("checkpoint-*"))
    assert names == ["checkpoint-epoch-000001-iteration-0000000005", "checkpoint-epoch-000001-iteration-0000000006"]
    curve = read_scalars(session.run_dir)["training/loss/iterations"]
    assert [step for step, _ in curve] == [1, 2, 3, 4, 5, 6, 7]
    assert math.isnan(curve[-1][1])


def test_no_checkpoint_is_written_if_a_parameter_is_nan(tmp_path):
    class Poisoned(TinySession):
        def init_network(self):
            network = super().init_network()
            network.unused = torch.nn.Parameter(torch.zeros(1))  # the loss stays finite, so only a checkpoint finds it
            return network

        def init_optimizer(self):
            optimizer = super().init_optimizer()
            optimizer.register_step_post_hook(self.poison)
            return optimizer

        def poison(self, optimizer, arguments, keywords):
            with torch.no_grad():
                self.network.unused.fill_(math.nan)

    session = Poisoned(config_with(checkpoint_every_n_iterations=1), tmp_path)
    with pytest.raises(NonFiniteError, match="The parameter 'unused' of the network contains NaN"):
        session()
    assert not Path(session.run_dir).exists()


def test_a_bad_loss_in_validation_raises(tmp_path):
    class InValidation(Exploding):
        def explodes(self):
            return not self.network.training

    with pytest.raises(NonFiniteError, match="in validation-valid: epoch 1, iteration 1"):
        InValidation(CONFIG, tmp_path)()
