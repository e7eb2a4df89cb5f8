import logging
import math
import re
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from tiny import TinySession, config_with, read_scalars

from torchbase import Engine, Phase, Run, hookimpl
from torchbase.checkpoints.storage import newest_whole_checkpoint
from torchbase.engine.training_step import TrainingStep
from torchbase.errors import NonFiniteError
from torchbase.files.bitwise import different_values
from torchbase.hooks import NanSkip

BAD_ROW = "5"


def is_bad(mini_batch):
    return BAD_ROW in mini_batch["name"]


class Poisoned(TinySession):
    """Makes the loss or gradient of a mini-batch of each training epoch NaN or infinite."""

    def forward_pass(self, mini_batch):
        return {**super().forward_pass(mini_batch), "is_poisoned": self.network.training and is_bad(mini_batch)}

    def loss_function(self, *, output, target, is_poisoned):
        loss = super().loss_function(output=output, target=target)
        return self.poison(loss, output) if is_poisoned else loss


class NanLoss(Poisoned):
    def poison(self, loss, output):
        return loss * math.nan


class InfiniteLoss(Poisoned):  # its gradients are finite
    def poison(self, loss, output):
        return loss + math.inf


class NanGradient(Poisoned):  # its loss is finite
    def poison(self, loss, output):
        return loss + torch.sqrt(0 * output.sum())


class NanInData(TinySession):  # the running mean of the batch norm becomes NaN
    def init_datasets(self):
        training, validation = super().init_datasets()
        columns = training.to_dict()
        columns["x"][int(BAD_ROW)] = [math.nan] * 3
        return Dataset.from_dict(columns), validation


class SkipBadMiniBatches:
    """Skips the iterations of the bad mini-batches."""

    def __init__(self, session):
        self.step = session.hooks["training_step"]

    @hookimpl
    def run_iteration(self, run, phase, batch):
        if not (phase.is_training and is_bad(batch)):
            self.step.run_iteration(run, phase, batch)


class StepEveryThird:
    """Accumulates gradients, and records whether there are any before a bad mini-batch."""

    def __init__(self):
        self.had_gradients = []

    @hookimpl
    def on_iteration_start(self, run, phase, batch):
        if phase.is_training and is_bad(batch):
            self.had_gradients.append(any(parameter.grad is not None for parameter in run.network.parameters()))

    @hookimpl
    def should_step_optimizer(self, run):
        return run.progress.iterations % 3 == 2


class RecordBadIterations:
    """Records the iterations of the bad mini-batches, and can stop the run before an iteration."""

    def __init__(self, stop_before=None):
        self.bad, self.stop_before = [], stop_before

    @hookimpl
    def on_iteration_start(self, phase, batch):
        if phase.is_training and is_bad(batch):
            self.bad.append(phase.progress.iterations + 1)

    @hookimpl
    def on_iteration_end(self, run, phase):
        if phase.is_training and phase.progress.iterations + 1 == self.stop_before:
            run.request_stop("for the test")


def state_of(session):
    gradients = [parameter.grad for parameter in session.network.parameters()]
    return [session.network.state_dict(), session.optimizer.state_dict(), gradients]


def are_same(first, second):
    """Compares the weights and buffers, the optimizer and the gradients of two sessions, bit by bit."""
    return different_values(state_of(first), state_of(second)) == []


def train_without_bad_mini_batches(kind, tmp_path, *hooks):
    """Trains without the bad mini-batches, which therefore leave no trace."""
    session = kind(config_with(), tmp_path)
    for hook in (SkipBadMiniBatches(session), *hooks):
        session.register(hook)
    return session, session()


@pytest.mark.parametrize("kind", [NanLoss, InfiniteLoss, NanGradient, NanInData])
def test_a_bad_mini_batch_leaves_no_trace(tmp_path, kind):
    expected, expected_summary = train_without_bad_mini_batches(kind, tmp_path)
    session = kind(config_with(nan_policy="skip"), tmp_path)
    summary = session()
    assert are_same(session, expected)
    assert summary.averages == expected_summary.averages
    assert summary.best_losses == expected_summary.best_losses
    curves = read_scalars(session.run_dir)
    assert curves == read_scalars(expected.run_dir)
    assert len(curves["training/loss/iterations"]) == 8  # of ten
    clean = TinySession(config_with(), tmp_path)
    clean()
    assert not are_same(session, clean)


def test_without_a_bad_mini_batch_the_hook_changes_nothing(tmp_path):
    clean, session = TinySession(config_with(), tmp_path), TinySession(config_with(nan_policy="skip"), tmp_path)
    assert clean().averages == session().averages
    assert are_same(session, clean)


@pytest.mark.parametrize("kind", [NanLoss, NanGradient, NanInData])
def test_accumulated_gradients_survive_a_bad_mini_batch(tmp_path, kind):
    expected_hook, hook = StepEveryThird(), StepEveryThird()
    expected, _ = train_without_bad_mini_batches(kind, tmp_path, expected_hook)
    session = kind(config_with(nan_policy="skip"), tmp_path)
    session.register(hook)
    session()
    assert hook.had_gradients == expected_hook.had_gradients == [True, True]
    assert are_same(session, expected)


def test_other_hooks_are_not_called_for_a_bad_mini_batch(tmp_path):
    class Record:
        def __init__(self):
            self.losses, self.gradients = [], []

        @hookimpl
        def on_loss_computed(self, phase, loss):
            self.losses.append(loss.item())

        @hookimpl
        def on_gradients_ready(self, run):
            self.gradients += [torch.isfinite(parameter.grad).all().item() for parameter in run.network.parameters()]

        @hookimpl
        def on_iteration_end(self, phase):
            if phase.loss is None:
                self.losses.append("skipped")

    for kind in (NanLoss, NanGradient):
        session = kind(config_with(nan_policy="skip"), tmp_path)
        session.register(record := Record())
        session()
        assert record.losses.count("skipped") == 2
        assert all(loss == "skipped" or math.isfinite(loss) for loss in record.losses)
        assert all(record.gradients)
        assert len(record.gradients) == 8 * 6


def test_the_warning_names_the_mini_batch_and_the_reason(tmp_path, caplog):
    session = NanLoss(config_with(nan_policy="skip"), tmp_path)
    session.register(record := RecordBadIterations())
    with caplog.at_level(logging.WARNING, "torchbase"):
        session()
    first, second = record.bad
    files = sorted((Path(session.run_dir) / "bad_mini_batches").iterdir())
    for (epoch, mini_batch), file in zip(((1, first), (2, second - 5)), files, strict=True):
        saved = torch.load(file, weights_only=True)
        assert (
            f"In mini-batch {mini_batch} of epoch {epoch} of training its loss is nan. It is skipped. Its samples are "
            f"the rows {saved['rows']} of training; it is saved in {file}."
        ) in caplog.text
        assert BAD_ROW in saved["values"]["name"]


def test_the_warning_names_the_parameter_whose_gradient_is_bad(tmp_path, caplog):
    session = NanGradient(config_with(nan_policy="skip"), tmp_path)
    with caplog.at_level(logging.WARNING, "torchbase"):
        session()
    assert re.search(r"the gradient of 'layers\.\d\.\w+' contains NaN or infinity\. It is skipped", caplog.text)


@pytest.mark.parametrize("kind", [NanLoss, NanGradient, NanInData])
def test_the_stop_policy_stops_in_the_state_before_the_mini_batch(tmp_path, kind):
    skipping = kind(config_with(nan_policy="skip"), tmp_path)
    skipping.register(record := RecordBadIterations())
    skipping()
    first = record.bad[0]
    assert 1 < first < 5
    before, _ = train_without_bad_mini_batches(kind, tmp_path, RecordBadIterations(stop_before=first))
    session = kind(config_with(nan_policy="stop"), tmp_path)
    summary = session()
    assert summary.epochs_done == 0
    assert summary.stop_reason.startswith(f"in mini-batch {first} of epoch 1 of training ")
    assert are_same(session, before)
    saved = newest_whole_checkpoint(Path(session.run_dir) / "states")
    assert different_values(saved.parts["network"], session.network.state_dict()) == []
    resumed = kind(
        config_with(nan_policy="skip"),
        tmp_path,
        create_run_dir_afresh=False,
        source_run_dir_tag=Path(session.run_dir).name,
    )
    resumed()
    assert are_same(resumed, skipping)


@pytest.mark.parametrize(
    ("policy", "reason", "epochs", "warnings"),
    [
        ("skip", "all 2 epochs are done", 2, 4),  # of both sets in both epochs
        ("stop", "in mini-batch 2 of epoch 1 of validation-valid its loss is nan", 0, 1),
    ],
)
def test_a_bad_loss_in_validation_causes_a_warning_and_no_skip(tmp_path, caplog, policy, reason, epochs, warnings):
    class InValidation(TinySession):
        def forward_pass(self, mini_batch):
            outputs = super().forward_pass(mini_batch)
            if not self.network.training and is_bad(mini_batch):
                outputs["output"] = outputs["output"] * math.nan
            return outputs

    session = InValidation(config_with(nan_policy=policy), tmp_path)
    with caplog.at_level(logging.WARNING, "torchbase"):
        summary = session()
    assert (summary.stop_reason, summary.epochs_done) == (reason, epochs)
    messages = [record.message for record in caplog.records if "In mini-batch" in record.message]
    assert messages[0].startswith("In mini-batch 2 of epoch 1 of validation-valid its loss is nan. Its samples are")
    assert len(messages) == warnings
    if epochs:
        assert math.isnan(summary.averages["validation-valid"]["loss"])
        clean = TinySession(config_with(), tmp_path)
        clean()
        assert are_same(session, clean)


def test_an_epoch_without_a_good_mini_batch_has_no_averages(tmp_path):
    class AllBad(NanLoss):
        def forward_pass(self, mini_batch):
            return {**super().forward_pass(mini_batch), "is_poisoned": self.network.training}

    session = AllBad(config_with(nan_policy="skip"), tmp_path)
    untouched = {name: value.clone() for name, value in session.network.state_dict().items()}
    summary = session()
    assert summary.epochs_done == 2
    assert summary.averages["training"] == {}
    assert different_values(session.network.state_dict(), untouched) == []


def train_on(losses):
    """Trains on mini-batches with the given losses."""
    network = torch.nn.Linear(1, 1)
    step = TrainingStep(
        lambda factor: {"output": network(torch.ones(1, 1)) * factor},
        lambda *, output: output.mean(),
        lambda *, loss_tensor: loss_tensor,
        lambda factor: 1,
    )
    run = Run(
        training=Phase("training", losses, is_training=True),
        max_epochs=1,
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=1e-3),
    )
    Engine(defaults=[step], hooks=[NanSkip()]).run(run)
    return run


def test_the_hundredth_skip_in_a_row_raises():
    with pytest.raises(NonFiniteError, match=r"100 mini-batches of training in a row were skipped.* its loss is nan"):
        train_on([1.0] + [math.nan] * 100)


def test_a_good_mini_batch_resets_the_count():
    run = train_on(([math.nan] * 99 + [1.0]) * 2 + [math.nan] * 99)
    assert (run.epochs_done, run.progress.iterations) == (1, 299)


def test_sparse_gradients_are_checked():
    def train(rows):
        network = torch.nn.Embedding(4, 2, sparse=True)
        step = TrainingStep(
            lambda batch: {"output": network(batch["rows"]) * batch["factor"]},
            lambda *, output: output.square().sqrt().sum(),
            lambda *, loss_tensor: loss_tensor,
            lambda batch: len(batch["rows"]),
        )
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        training = Phase("training", rows, is_training=True)
        before = network.weight.detach().clone()
        Engine(defaults=[step], hooks=[NanSkip()]).run(
            Run(training=training, max_epochs=1, network=network, optimizer=optimizer)
        )
        return not torch.equal(before, network.weight)

    rows = torch.tensor([1, 2])
    assert train([{"rows": rows, "factor": 1.0}])
    assert not train([{"rows": rows, "factor": 0.0}])  # the gradient of the root is infinite at 0
