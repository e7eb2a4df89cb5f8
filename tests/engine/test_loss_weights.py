import math

import pytest
import torch
from datasets import Dataset
from datasets.table import InMemoryTable
from every_technique import PlainSession, loss_of, session_with, train_by_hand, training_differences
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import StopAt

from torchbase import ValidationDatasetsDict
from torchbase.engine import loss_weights
from torchbase.engine.iteration_values import check_weight
from torchbase.errors import StepError
from torchbase.hooks import GradientAccumulation, NanSkip, RetryOnOutOfMemory


class Network(torch.nn.Sequential):
    def __init__(self):
        super().__init__(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
        self.double()


class TokensSession(PlainSession):
    """Each sample has 4 tokens, of which the mask counts some. A mean over none is 0 / 0, and so are its gradients."""

    architecture = "Network"
    counts = (4, 1, 0, 2)  # tokens of each sample

    def init_datasets(self):
        return self.samples(), ValidationDatasetsDict(datasets=(self.samples(),), only_for_demo=(False,), names=("v",))

    def samples(self):
        x = torch.randn(len(self.counts), 4, 2, generator=torch.Generator().manual_seed(5)).tolist()
        mask = [[float(token < count) for token in range(4)] for count in self.counts]
        return Dataset(InMemoryTable.from_pydict({"x": x, "mask": mask}), fingerprint=f"tokens-{self.counts}")

    def init_network(self):
        return Network()

    def forward_pass(self, mini_batch):
        output = self.network(mini_batch["x"].double()).squeeze(2)
        self.log("samples", len(output))  # weighted by samples: another kind of value
        return {"output": output, "target": mini_batch["x"].sum(2), "mask": mini_batch["mask"]}

    def loss_function(self, *, output, target, mask):
        error = ((output - target).abs() * mask).sum() / mask.sum()
        return {"loss": ((output - target).square() * mask).sum() / mask.sum(), "error": error}

    def infer_loss_weight(self, mini_batch):
        return mini_batch["mask"].sum()


class ByNumbers(TokensSession):
    def infer_loss_weight(self, mini_batch):
        return int(super().infer_loss_weight(mini_batch))


def session_of(counts, kind=TokensSession):
    return type(kind.__name__, (kind,), {"counts": tuple(counts)})


def train_over_tokens(parent, kind, accumulated, mini_batch_size):
    """Trains with the mean over all tokens of each step, and returns the session and its averages."""
    epochs, step = [], []

    def one_mini_batch(session, batch):
        step.append(batch)
        epochs.append(len(batch["x"]))
        is_last = sum(epochs) % len(kind.counts) == 0
        if len(step) < accumulated and not is_last:
            return
        joined = {name: torch.cat([one[name] for one in step]) for name in step[0]}
        step.clear()
        weights = list(session.network.parameters())
        if joined["mask"].sum() > 0:
            gradients = torch.autograd.grad(loss_of(session, joined)["loss"], weights)
        else:
            gradients = [torch.zeros_like(one) for one in weights]
        for one, gradient in zip(weights, gradients, strict=True):
            one.grad = gradient
        session.optimizer.step()
        session.optimizer.zero_grad()

    plain = type("Unlogged", (kind,), {"log": lambda *_: None})
    session = train_by_hand(parent, one_mini_batch, kind=plain, mini_batch_size=mini_batch_size)
    everything = next(iter(torch.utils.data.DataLoader(session.dataset_train.with_format("torch"), len(kind.counts))))
    return session, {name: value.item() for name, value in loss_of(session, everything).items()}


def check_equals_a_loop_over_all_tokens(parent, counts, accumulated, parts, mini_batch_size, kind, reads_at_once):
    kind = session_of(counts, kind)
    hooks = [GradientAccumulation(accumulated)] if accumulated > 1 else []
    with pytest.MonkeyPatch.context() as patch:
        if not reads_at_once:  # as on a GPU: weights stay tensors until their block is read
            patch.setattr(loss_weights, "READ_AT_ONCE", ())
        session = session_with(
            parent / "run", *hooks, kind=kind, mini_batch_size=mini_batch_size, mini_batch_parts=parts
        )
        for name in ("checkpoint", "tensorboard", "charts"):  # to save time
            session.unregister(name)
        summary = session()
    by_hand, expected = train_over_tokens(parent / "hand", kind, accumulated, mini_batch_size)
    for name, weight in by_hand.network.state_dict().items():
        torch.testing.assert_close(session.network.state_dict()[name], weight, rtol=0, atol=1e-9)
    found = dict(summary.averages["validation-v"])
    found.pop("samples")
    assert found == pytest.approx(expected, rel=1e-9)
    assert session.evaluate(session.dataset_train)["loss"] == pytest.approx(expected["loss"], rel=1e-9)
    assert summary.best_losses["validation-v"].loss <= expected["loss"] * (1 + 1e-9)


CHOICES = {
    "counts": st.lists(st.integers(0, 4), min_size=2, max_size=9).filter(any),
    "accumulated": st.integers(1, 3),
    "parts": st.sampled_from([None, 1, 2, 3]),
    "mini_batch_size": st.integers(3, 5),
    "kind": st.sampled_from([TokensSession, ByNumbers]),
    "reads_at_once": st.booleans(),
}


@pytest.mark.parametrize(
    ("accumulated", "parts", "reads_at_once"), [(1, None, True), (2, None, False), (1, 2, False), (3, 2, True)]
)
def test_steps_and_averages_are_those_of_the_mean_over_all_tokens(tmp_path, accumulated, parts, reads_at_once):
    counts = (0, 4, 0, 0, 1, 2, 4, 0, 3)
    check_equals_a_loop_over_all_tokens(tmp_path, counts, accumulated, parts, 3, TokensSession, reads_at_once)


@pytest.mark.thorough
@settings(max_examples=100)
@given(**CHOICES)
def test_steps_and_averages_are_those_of_the_mean_over_any_tokens(tmp_path_factory, **choices):
    check_equals_a_loop_over_all_tokens(tmp_path_factory.mktemp("runs"), **choices)


def test_a_value_that_is_no_loss_is_averaged_over_samples(tmp_path):
    summary = session_with(tmp_path, kind=session_of([4, 0, 1, 1, 2]), mini_batch_size=3, num_epochs=1)()
    assert summary.averages["training"]["samples"] == pytest.approx((3 * 3 + 2 * 2) / 5)


class InTurns(TokensSession):
    """Two optimizers, which train nothing, so the loss of each turn is that of the first weights."""

    def init_optimizer(self):
        layers = self.network
        return {name: torch.optim.SGD(layers[at].parameters(), lr=0.0) for name, at in (("first", 0), ("last", 2))}

    def forward_pass(self, mini_batch):
        return super().forward_pass(mini_batch) | {"turn": self.turn}

    def infer_loss_weight(self, mini_batch):
        weight = super().infer_loss_weight(mini_batch)
        return weight * 0 if self.turn == "last" and mini_batch["mask"].sum() < 5 else weight


@pytest.mark.parametrize(("parts", "reads_at_once"), [(None, False), (2, True)])
def test_each_turn_of_several_optimizers_has_a_weight_of_its_own(tmp_path, monkeypatch, parts, reads_at_once):
    if not reads_at_once:
        monkeypatch.setattr(loss_weights, "READ_AT_ONCE", ())
    kind = session_of([4, 1, 0, 2, 3, 3, 1], InTurns)
    session = session_with(tmp_path, kind=kind, mini_batch_size=3, mini_batch_parts=parts, num_epochs=1)
    averages = session().averages
    assert averages["training"]["loss_first"] == pytest.approx(averages["validation-v"]["loss"], rel=1e-9)
    assert averages["training"]["error_first"] == pytest.approx(averages["validation-v"]["error"], rel=1e-9)
    assert averages["training"]["loss_last"] != pytest.approx(averages["validation-v"]["loss"], rel=1e-9)


class BySamples(PlainSession):
    def infer_loss_weight(self, mini_batch):
        return self.infer_mini_batch_size(mini_batch)


@pytest.mark.parametrize("parts", [None, 3])
def test_weights_that_are_samples_give_the_bits_of_the_default(tmp_path, parts):
    runs = [
        session_with(tmp_path / kind.__name__, GradientAccumulation(2), kind=kind, mini_batch_parts=parts)
        for kind in (PlainSession, BySamples)
    ]
    averages = [session().averages for session in runs]
    assert training_differences(*runs) == []
    assert averages[0] == averages[1]


@pytest.mark.parametrize("reads_at_once", [True, False])
def test_a_run_that_is_stopped_between_two_steps_resumes_exactly(tmp_path, monkeypatch, reads_at_once):
    if not reads_at_once:
        monkeypatch.setattr(loss_weights, "READ_AT_ONCE", ())
    kind = session_of([4, 1, 0, 2, 3, 3, 1, 4])
    whole = session_with(tmp_path / "whole", GradientAccumulation(2), kind=kind, mini_batch_size=2)
    expected = whole().averages
    session_with(tmp_path / "stopped", GradientAccumulation(2), StopAt(3), kind=kind, mini_batch_size=2)()
    resumed = kind.resume(tmp_path / "stopped")
    resumed.register(GradientAccumulation(2))
    assert resumed().averages == expected
    assert training_differences(whole, resumed) == []


class OutOfMemoryOnce(TokensSession):
    """Runs out of memory in the first mini-batch with more than one sample."""

    def forward_pass(self, mini_batch):
        if len(mini_batch["x"]) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward_pass(mini_batch)


@pytest.mark.parametrize("parts", [None, 2])
def test_parts_that_are_made_after_running_out_of_memory_are_weighted(tmp_path, parts):
    counts = [4, 1, 0, 2, 3, 3, 1]
    runs = [
        session_with(
            tmp_path / kind.__name__,
            GradientAccumulation(2),
            RetryOnOutOfMemory(),
            kind=session_of(counts, kind),
            mini_batch_size=4,
            mini_batch_parts=parts,
        )
        for kind in (TokensSession, OutOfMemoryOnce)
    ]
    for session in runs:
        session()
    whole, retried = (torch.cat([one.flatten() for one in run.network.parameters()]) for run in runs)
    torch.testing.assert_close(retried, whole, rtol=0, atol=1e-9)


@pytest.mark.parametrize("policy", ["raise", "skip"])
def test_a_mini_batch_without_tokens_is_no_nan_and_has_no_loss(tmp_path, policy, caplog):
    session = session_with(tmp_path, kind=session_of([0, 0, 0, 0, 1, 2]), mini_batch_size=2, nan_policy=policy)
    assert isinstance(session.hooks.get("nan_skip"), NanSkip) == (policy == "skip")
    session()
    assert math.isfinite(session._run.training.averages["loss"])
    assert "skipped" not in caplog.text
    assert all(torch.isfinite(one).all() for one in session.network.parameters())


def test_an_epoch_without_tokens_raises(tmp_path):
    with pytest.raises(StepError, match="'error' over epoch 1 of training is undefined, since infer_loss_weight"):
        session_with(tmp_path, kind=session_of([0, 0]))()


INVALID = [
    -1,
    math.nan,
    math.inf,
    None,
    "3",
    True,
    torch.tensor([1.0, 2.0]),
    torch.tensor(True),
    torch.tensor(-0.5),
    1j,
]


@pytest.mark.parametrize("weight", INVALID, ids=str)
@pytest.mark.parametrize("reads_at_once", [True, False])
def test_an_invalid_weight_raises_before_training(tmp_path, monkeypatch, weight, reads_at_once):
    if not reads_at_once:
        monkeypatch.setattr(loss_weights, "READ_AT_ONCE", ())
    kind = type("Invalid", (TokensSession,), {"infer_loss_weight": lambda self, mini_batch: weight})
    with pytest.raises(StepError, match=r"infer_loss_weight has to return how much .* but returned ") as caught:
        session_with(tmp_path, kind=kind)()
    assert any("before training" in note for note in caught.value.__notes__)


def test_a_weight_that_becomes_invalid_on_the_device_names_its_iteration(tmp_path, monkeypatch):
    monkeypatch.setattr(loss_weights, "READ_AT_ONCE", ())

    class Later(TokensSession):
        def infer_loss_weight(self, mini_batch):
            return torch.tensor(-1.0 if self._run.progress.iterations == 2 else 1.0)

    session = session_with(tmp_path, kind=Later, mini_batch_size=1)
    with pytest.raises(StepError, match=r"returned -1.0 in iteration 3\. To fix"):
        session()


def test_numbers_of_any_kind_are_weights():
    for weight in (3, 2.5, torch.tensor(4), torch.tensor(0.0), torch.tensor(1.5, dtype=torch.bfloat16)):
        assert check_weight(weight) == float(weight)
