from pathlib import Path

import pytest
import torch
from every_technique import (
    check_resumes_exactly,
    final_state_of,
    session_with,
    step_plainly,
    train_by_hand,
    training_differences,
)
from tiny import StopAt, TinySession
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from torchbase import Engine, Phase, Run, hookimpl
from torchbase.errors import HookError
from torchbase.files.bitwise import different_values
from torchbase.hooks import ExponentialMovingAverage, GradientAccumulation


def average(averages, weights, updates):
    """Averages with a decay of 0.25, which limits the first decays of (1 + n) / (10 + n) from the fourth update."""
    decay = [None, 2 / 11, 3 / 12, 0.25][min(int(updates), 3)]
    get_ema_multi_avg_fn(decay)(averages, weights, updates)


def averaged_by_hand(tmp_path, use_buffers, epochs=2):
    """Returns the trained session, and the averages after each epoch of five mini-batches."""
    averages, of_epochs = [], []

    def step(session, batch):
        if not averages:
            averages.append(AveragedModel(session.network, multi_avg_fn=average, use_buffers=use_buffers))
        step_plainly(session, batch)
        averages[0].update_parameters(session.network)
        averages.append(batch)
        if (len(averages) - 1) % 5 == 0:
            of_epochs.append({name: value.clone() for name, value in averages[0].state_dict().items()})

    return train_by_hand(tmp_path, step, epochs=epochs), of_epochs


class RecordNetworks:
    """Records the weights in training, in validation and in ``on_best_epoch``."""

    def __init__(self):
        self.validated, self.best, self.trained = [], {}, []

    @hookimpl
    def on_iteration_start(self, run, phase):
        weights = self.trained if phase.is_training else self.validated
        weights.append({name: value.clone() for name, value in run.network.state_dict().items()})

    @hookimpl
    def on_best_epoch(self, run):
        self.best[run.epoch] = {name: value.clone() for name, value in run.network.state_dict().items()}


@pytest.mark.parametrize("use_buffers", [False, True])
@pytest.mark.parametrize("is_listed_first", [False, True])
def test_validation_and_the_best_network_equal_averages_by_hand(tmp_path, use_buffers, is_listed_first):
    by_hand, of_epochs = averaged_by_hand(tmp_path, use_buffers)
    hooks = [ExponentialMovingAverage(0.25, use_buffers), record := RecordNetworks()]
    session = session_with(tmp_path, *(hooks if is_listed_first else reversed(hooks)))
    summary = session()
    assert training_differences(session, by_hand) == []
    # Buffers that aren't averaged are copied from the network.
    expected = [
        {name.removeprefix("module."): value for name, value in state.items() if name != "n_averaged"}
        for state in of_epochs
    ]
    assert len(record.validated) == 2 * (3 + 2)
    assert different_values(record.validated, [expected[0]] * 5 + [expected[1]] * 5) == []
    plain = session_with(tmp_path, plain_record := RecordNetworks())
    plain()
    assert different_values(record.trained, plain_record.trained) == []
    assert different_values(record.best, {epoch: expected[epoch - 1] for epoch in record.best}) == []
    saved = torch.load(Path(session.run_dir, "network.pth"), weights_only=True)
    assert different_values(dict(saved), record.best[summary.best_losses["validation-valid"].epoch]) == []
    assert different_values(final_state_of(session)["hooks"]["exponential_moving_average"], of_epochs[-1]) == []


@pytest.mark.parametrize("use_buffers", [False, True])
def test_a_resumed_run_continues_exactly(tmp_path, use_buffers):
    check_resumes_exactly(tmp_path, lambda: [ExponentialMovingAverage(0.8, use_buffers)])


@pytest.mark.parametrize("phase", ["validation-valid", "validation-demo"])
def test_a_run_that_stops_in_validation_saves_the_unaveraged_weights(tmp_path, phase):
    whole = session_with(tmp_path / "whole", ExponentialMovingAverage(0.8), dropout=0.3)
    whole()
    stopped = session_with(tmp_path / "stopped", ExponentialMovingAverage(0.8), StopAt(2, phase), dropout=0.3)
    stopped()
    resumed = TinySession.resume(tmp_path / "stopped")
    resumed.register(ExponentialMovingAverage(0.8))
    resumed()
    assert different_values(final_state_of(whole), final_state_of(resumed)) == []


def test_an_error_in_validation_restores_the_weights(tmp_path):
    class Fails(TinySession):
        def forward_pass(self, mini_batch):
            if not self.network.training and self._run.progress.iterations:
                raise ZeroDivisionError
            return super().forward_pass(mini_batch)

    session = session_with(tmp_path, ExponentialMovingAverage(0.8), record := RecordNetworks(), kind=Fails)
    with pytest.raises(ZeroDivisionError):
        session()
    plain = session_with(tmp_path, StopAt(5))
    plain()
    assert different_values(dict(session.network.state_dict()), dict(plain.network.state_dict())) == []
    assert different_values(record.validated[0], dict(plain.network.state_dict())) != []


def test_averages_are_updated_only_after_optimizer_steps(tmp_path):
    session = session_with(tmp_path, ExponentialMovingAverage(0.8), GradientAccumulation(2))
    session()
    assert final_state_of(session)["hooks"]["exponential_moving_average"]["n_averaged"] == 2 * 3


def decay_of_the_update_after(updates, decay):
    """The decay of one update of averages of ones by weights of zeros, which is the averages after it."""
    hook = ExponentialMovingAverage(decay)
    network = torch.nn.Linear(1, 1)
    run = Run(training=Phase("training", [1], is_training=True), max_epochs=1, network=network)
    weights = {"module.weight": torch.ones(1, 1), "module.bias": torch.zeros(1)}
    hook.load_state_dict({"n_averaged": torch.tensor(updates), **weights})
    Engine(lambda run, phase, batch: run.call.run_optimizer_step(run=run), hooks=[ZeroWeights(), hook]).run(run)
    state = hook.state_dict()
    assert state["n_averaged"] == updates + 1
    return state["module.weight"].item()


class ZeroWeights:
    @hookimpl
    def run_optimizer_step(self, run):
        torch.nn.init.zeros_(run.network.weight)


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.9999])
@pytest.mark.parametrize("updates", [1, 2, 7, 8, 9, 79, 80, 81, 1000, 100_000])
def test_the_first_decays_are_lower(updates, decay):
    assert decay_of_the_update_after(updates, decay) == pytest.approx(min(decay, (1 + updates) / (10 + updates)))


def test_a_short_run_isnt_held_back_by_a_high_decay(tmp_path):
    losses = [
        session_with(tmp_path, *hooks, num_epochs=4, seed=1)().best_losses["validation-valid"].loss
        for hooks in ([], [ExponentialMovingAverage(0.9999)])
    ]
    assert losses[1] < 1.5 * losses[0]


class StepsByItself:
    """Steps without the events of a training iteration."""

    @hookimpl
    def run_iteration(self, run, phase, batch):
        output = run.network(batch["x"])
        loss = torch.nn.functional.mse_loss(output, batch["y"])
        phase.outputs, phase.loss, phase.samples = {"output": output}, loss.detach(), len(output)
        phase.values["loss"] = phase.loss
        if phase.is_training:
            loss.backward()
            run.optimizer.step()
            run.optimizer.zero_grad()


def test_averages_that_were_never_updated_are_not_used(tmp_path):
    hooks = [ExponentialMovingAverage(0.8), record := RecordNetworks()]
    session, plain = session_with(tmp_path, StepsByItself(), *hooks), session_with(tmp_path)
    summary, expected = session(), plain()
    assert summary.averages == expected.averages
    saved = [torch.load(Path(one.run_dir, "network.pth"), weights_only=True) for one in (session, plain)]
    assert different_values(*map(dict, saved)) == []
    assert different_values(dict(saved[0]), record.trained[0]) != []


def test_an_evaluation_uses_the_current_weights(tmp_path):
    session = session_with(tmp_path, ExponentialMovingAverage(0.8))
    summary = session()
    dataset, best = session.datasets_valid_dict["valid"], summary.best_losses["validation-valid"]
    raw = session.evaluate(dataset)["loss"]
    session.load_best_network()
    assert session.evaluate(dataset)["loss"] == best.loss != raw


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.5, float("nan")])
def test_an_invalid_decay_raises(decay):
    with pytest.raises(HookError, match="between 0 and 1"):
        ExponentialMovingAverage(decay)
