import pytest
import torch
from adversaries import AdversarialSession, AdversariesByHand, CriticSession
from every_technique import session_with, train_by_hand

from torchbase import Engine, Phase, Run, TrainingStep, hookimpl
from torchbase.data import SplitMiniBatch
from torchbase.engine.named_optimizers import NamedOptimizers
from torchbase.engine.turns import Turns
from torchbase.errors import NonFiniteError, StepError
from torchbase.files.bitwise import different_values
from torchbase.hooks import MetricAverages


def ends_alike(session, by_hand):
    states = [(one.network.state_dict(), one.optimizer.state_dict()) for one in (session, by_hand)]
    return different_values(*states) == []


@pytest.mark.parametrize("kind", [AdversarialSession, CriticSession])
def test_turns_equal_a_loop_by_hand(tmp_path, kind):
    session = session_with(tmp_path / "turns", kind=kind)
    session()
    turns = (lambda number: kind.optimizer_turns(None, number)) if kind is CriticSession else None
    by_hand = train_by_hand(tmp_path / "hand", AdversariesByHand(*([turns] if turns else [])), kind=kind)
    assert ends_alike(session, by_hand)


class Watch:
    """Records what is seen in each turn, and what is left after each iteration."""

    def __init__(self):
        self.turns, self.between = [], []

    @hookimpl
    def on_gradients_ready(self, run):
        named = dict(run.network.named_parameters())
        self.turns.append(
            {
                "turn": run.turn,
                "optimizer": run.optimizer,
                "trained": {name.partition(".")[0] for name, one in named.items() if one.requires_grad},
                "gradients": {name.partition(".")[0] for name, one in named.items() if one.grad is not None},
            }
        )

    @hookimpl
    def on_iteration_end(self, run, phase):
        all_train = all(one.requires_grad for one in run.network.parameters())
        self.between.append((phase.is_training, run.turn, isinstance(run.optimizer, NamedOptimizers), all_train))


def test_a_turn_sees_the_parameters_of_its_optimizer_alone(tmp_path):
    watch = Watch()
    session = session_with(tmp_path, watch, kind=AdversarialSession, num_epochs=1)
    session()
    assert [seen["turn"] for seen in watch.turns] == ["discriminator", "generator"] * 5
    for seen in watch.turns:
        assert seen["optimizer"] is session.optimizer[seen["turn"]]
        assert seen["trained"] == seen["gradients"] == {seen["turn"]}
    assert {state[1:] for state in watch.between} == {(None, True, True)}
    assert {state[0] for state in watch.between} == {True, False}


def test_accumulated_gradients_of_the_others_are_out_of_sight_and_stay(tmp_path):
    class Keeps:
        def __init__(self):
            self.seen = []

        @hookimpl
        def should_step_optimizer(self, run):
            layer = getattr(run.network, "generator" if run.turn == "discriminator" else "discriminator")[0]
            self.seen.append(layer.weight.grad)
            return False

    hook = Keeps()
    session = session_with(tmp_path, hook, kind=AdversarialSession, num_epochs=1)
    session()
    assert hook.seen == [None] * 10
    assert all(one.grad is not None for one in session.network.parameters())


class Seen:
    @hookimpl
    def on_values_read(self, phase, rows):
        self.rows = [*getattr(self, "rows", ()), *((phase.name, row.values) for row in rows)]


def test_values_have_the_name_of_the_turn_and_validation_has_none(tmp_path):
    seen = Seen()
    summary = session_with(tmp_path, seen, kind=CriticSession)()
    critic = {"loss_discriminator", "on_real_discriminator"}
    both = critic | {"loss_generator"}
    training = [set(values) for name, values in seen.rows if name == "training"]
    assert training == [both if number % 3 == 0 else critic for number in range(1, 11)]
    assert summary.averages["training"].keys() == both
    assert all(set(values) == {"loss", "on_real"} for name, values in seen.rows if name != "training")
    assert summary.best_losses["validation-valid"].loss > 0


def test_the_rehearsal_knows_the_values_of_all_turns(tmp_path):
    session = session_with(tmp_path, kind=CriticSession)
    session()
    names = session._run.training.value_names
    assert set(names.of_iterations) == {"loss_discriminator", "on_real_discriminator", "loss_generator"}


def test_a_value_may_not_have_the_name_of_another_turns_value(tmp_path):
    class Clashing(AdversarialSession):
        def forward_pass(self, mini_batch):
            self.log("x" if self.turn == "a_b" else "x_a", 1.0)
            return super().forward_pass(mini_batch)

        def init_optimizer(self):
            named = super().init_optimizer()
            return {"b": named["generator"], "a_b": named["discriminator"]}

    with pytest.raises(StepError, match="The turn of 'a_b' logs 'x_a_b', which is the name of a value that") as raised:
        session_with(tmp_path, kind=Clashing)()
    assert "before training, with the first mini-batch of training" in "".join(raised.value.__notes__)


@pytest.mark.parametrize("parts", [None, 2])
def test_the_losses_of_turns_are_averaged_by_the_weight_of_the_mini_batch(tmp_path, parts):
    class Weighted(CriticSession):
        def infer_loss_weight(self, mini_batch):
            return float((mini_batch["x"][:, 0] > 0).sum())

    seen = Seen()
    session = session_with(tmp_path, seen, kind=Weighted, num_epochs=1, mini_batch_size=6, mini_batch_parts=parts)
    averages = session().averages["training"]
    weights = [float((batch["x"][:, 0] > 0).sum()) for batch in whole_mini_batches(session)]
    rows = [values for name, values in seen.rows if name == "training"]
    for name in ("loss_discriminator", "on_real_discriminator", "loss_generator"):
        pairs = [(weight, row[name]) for weight, row in zip(weights, rows, strict=True) if name in row and weight]
        assert averages[name] == pytest.approx(sum(w * v for w, v in pairs) / sum(w for w, _ in pairs))


def whole_mini_batches(session):
    for batch in session.dataloader_train.mini_batches(1):
        parts = [part.mini_batch for part in batch.parts] if isinstance(batch, SplitMiniBatch) else [batch]
        yield {"x": torch.cat([part["x"] for part in parts])}


def test_an_error_names_the_turn(tmp_path):
    class Fails(AdversarialSession):
        def loss_function(self, *, generated, real=None):
            if self.turn == "generator" and "_run" in vars(self) and self._run.progress.iterations == 2:
                raise ValueError("no")
            return super().loss_function(generated=generated, real=real)

    session = session_with(tmp_path, kind=Fails)
    with pytest.raises(ValueError, match="no") as raised:
        session()
    assert "in the turn of 'generator'" in raised.value.__notes__
    assert session._run.turn is None
    assert all(one.requires_grad for one in session.network.parameters())


def test_a_loss_that_is_not_finite_in_a_turn_ends_the_run(tmp_path):
    class Nan(AdversarialSession):
        def loss_function(self, *, generated, real=None):
            loss = super().loss_function(generated=generated, real=real)
            return loss * float("nan") if self.turn == "generator" and self._run.progress.iterations == 3 else loss

    with pytest.raises(NonFiniteError, match="The loss_generator is nan in training: epoch 1, iteration 4"):
        session_with(tmp_path, kind=Nan)()


def test_an_engine_without_a_session_takes_turns():
    layers = torch.nn.ModuleList(torch.nn.Linear(1, 1) for _ in range(2))
    optimizers = NamedOptimizers(
        {name: torch.optim.SGD(layer.parameters(), 0.1) for name, layer in zip("ab", layers, strict=True)}
    )
    run = Run(
        training=Phase("training", [torch.ones(4, 1)] * 3, is_training=True),
        max_epochs=1,
        network=layers,
        optimizer=optimizers,
        turns=Turns(optimizers),
    )
    step = TrainingStep(
        lambda batch: {"output": layers[0](batch) * layers[1](batch)},
        lambda *, output: (output - 1).square().mean(),
        lambda *, loss_tensor: loss_tensor,
        len,
    )
    before = [one.detach().clone() for one in layers.parameters()]
    Engine(hooks=[MetricAverages()], defaults=[step]).run(run)
    assert run.training.averages["loss_b"] < run.training.averages["loss_a"]
    assert not any(torch.equal(one, former) for one, former in zip(layers.parameters(), before, strict=True))
