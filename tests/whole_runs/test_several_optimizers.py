"""Several optimizers in a session: with techniques, in parts, on several processes, resumed, and sharded."""

from functools import partial

import pytest
import several
import torch
from adversaries import AdversarialSession, AdversariesByHand, CriticSession
from divided import in_suite
from every_technique import Recorder, check_resumes_exactly, session_with, train_by_hand
from tiny import TinySession, read_scalars
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import ExponentialLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from torchbase import ValidationDatasetsDict, hookimpl, isolate_rng
from torchbase import hooks as techniques
from torchbase.errors import NonFiniteError, StepError
from torchbase.files.bitwise import different_values

decay = partial(ExponentialLR, gamma=0.9)


class ScheduledSession(CriticSession):
    def init_scheduler(self):
        return {
            "generator": techniques.LearningRateSchedule(decay, every="1it"),
            "discriminator": decay(self.optimizer["discriminator"]),
        }


TECHNIQUES = {
    "accumulation": lambda: techniques.GradientAccumulation(2),
    "average": lambda: techniques.ExponentialMovingAverage(0.8),
    "bf16": lambda: techniques.MixedPrecision("bf16"),
    "clipping": lambda: techniques.GradientClipping(norm=0.5),
    "compile": lambda: techniques.Compile(backend="eager"),
    "fp16": lambda: techniques.MixedPrecision("fp16"),
    "freeze": lambda: techniques.Freeze("generator.0.*", "1ep"),
    "gradients": lambda: techniques.LogGradients("2it"),
    "retry": techniques.RetryOnOutOfMemory,
    "sharpness": lambda: techniques.SharpnessAwareMinimization(0.1),
    "times": techniques.HookTimes,
    "weights": lambda: techniques.LogWeights("3it"),
}
TOGETHER = ("accumulation", "average", "clipping", "fp16", "freeze", "gradients", "sharpness")


def make(names=TOGETHER):
    return [TECHNIQUES[name]() for name in names]


def test_clipping_averages_and_schedules_equal_a_loop_by_hand(tmp_path):
    hooks = make(["clipping", "average"])
    session = session_with(tmp_path / "hooks", *hooks, kind=ScheduledSession)
    session()
    averages, schedulers, norms = [], {}, {"generator": [], "discriminator": []}

    def use(session, name, parameters):
        norms[name].append(clip_grad_norm_(parameters, 0.5).item())
        session.optimizer[name].step()
        session.optimizer[name].zero_grad()
        if name == "generator":
            schedulers["generator"].step()

    iterate = AdversariesByHand(partial(CriticSession.optimizer_turns, None), use)

    def step(session, batch):
        if not schedulers:
            schedulers.update({name: decay(optimizer) for name, optimizer in session.optimizer.items()})
            averages.append(AveragedModel(session.network, multi_avg_fn=average))
        iterate(session, batch)
        averages[0].update_parameters(session.network)
        if len(norms["discriminator"]) % 5 == 0:
            schedulers["discriminator"].step()

    by_hand = train_by_hand(tmp_path / "hand", step, kind=CriticSession)
    states = [(one.network.state_dict(), one.optimizer.state_dict()) for one in (session, by_hand)]
    for state in states:
        for optimizer in state[1].values():
            optimizer["param_groups"][0].pop("initial_lr")
    assert different_values(*states) == []
    assert different_values(hooks[1].state_dict(), averages[0].state_dict()) == []
    scalars = read_scalars(session.run_dir)
    for name, expected in norms.items():
        logged = [value for _, value in scalars[f"training/gradient_norm_{name}/iterations"]]
        assert logged == pytest.approx(expected, rel=1e-6)


def average(averages, weights, updates):
    """The averages of ExponentialMovingAverage(0.8), whose first decays are lower."""
    updates = int(updates)
    get_ema_multi_avg_fn(min(0.8, (1 + updates) / (10 + updates)))(averages, weights, updates)


def test_each_optimizer_accumulates_the_gradients_of_its_turns(tmp_path):
    session = session_with(tmp_path / "hook", techniques.GradientAccumulation(2), kind=AdversarialSession)
    session()
    counts = dict.fromkeys(session.optimizer, 0)

    def use(session, name, parameters):
        # Five mini-batches an epoch: the last one, of 2 samples in place of 4, is a step of its own.
        number = counts[name] % 5
        counts[name] += 1
        if number in (1, 3, 4):
            session.optimizer[name].step()
            session.optimizer[name].zero_grad()

    class ByHand(AdversariesByHand):
        def __call__(self, session, batch):
            self.share = 1 if next(iter(counts.values())) % 5 == 4 else 1 / 2
            super().__call__(session, batch)

    class HalfSession(AdversarialSession):
        def loss_function(self, **outputs):
            loss = super().loss_function(**outputs)
            return (loss["loss"] if isinstance(loss, dict) else loss) * by_hand.share

    by_hand = ByHand(use=use)
    trained = train_by_hand(tmp_path / "hand", by_hand, kind=HalfSession)
    states = [(one.network.state_dict(), one.optimizer.state_dict()) for one in (session, trained)]
    assert different_values(*states) == []


@pytest.mark.parametrize("parts", in_suite([None, 2], 2))
def test_a_run_with_all_techniques_resumes_exactly(tmp_path, parts):
    session = check_resumes_exactly(
        tmp_path, make, kind=ScheduledSession, mini_batch_size=6, mini_batch_parts=parts, stops=(2, 4)
    )
    assert session._run.epochs_done == 2


@pytest.mark.parametrize("name", in_suite(list(TECHNIQUES), "accumulation", "gradients"))
def test_a_technique_resumes_exactly(tmp_path, name):
    check_resumes_exactly(tmp_path, lambda: make([name]), kind=ScheduledSession)


OBSERVING = ("gradients", "retry", "times", "weights")


def test_techniques_that_observe_change_no_bit(tmp_path):
    plain = session_with(tmp_path / "plain", kind=CriticSession)
    observed = session_with(tmp_path / "observed", *make(OBSERVING), kind=CriticSession)
    plain()
    observed()
    states = [(one.network.state_dict(), one.optimizer.state_dict()) for one in (plain, observed)]
    assert different_values(*states) == []


class Overflows(CriticSession):
    """The gradients of the discriminator overflow once, while those of the generator are accumulated."""

    def optimizer_turns(self, iteration):
        return ["generator"] if iteration % 2 else ["discriminator"]

    def loss_function(self, *, generated, real=None):
        loss = super().loss_function(generated=generated, real=real)
        if self.turn == "discriminator" and self._run.progress.iterations == 1:
            loss["loss"] = loss["loss"] * 1000  # infinite in half precision once it is scaled
        return loss


def test_an_overflow_in_one_turn_leaves_the_scale_of_the_others(tmp_path):
    class Scales:
        def __init__(self):
            self.rows = []

        @hookimpl
        def on_values_read(self, phase, rows):
            if phase.is_training:
                self.rows += [{n: v for n, v in row.values.items() if n.startswith("gradient_scale")} for row in rows]

    class NotAccumulated:
        @hookimpl
        def should_step_optimizer(self, run):
            return False if run.turn == "generator" and run.progress.iterations == 0 else None

    scales = Scales()
    hooks = [NotAccumulated(), techniques.MixedPrecision("fp16"), scales]
    session_with(tmp_path, *hooks, kind=Overflows, num_epochs=1)()
    assert scales.rows[:4] == [
        {},
        {"gradient_scale_discriminator": 65536.0},
        {"gradient_scale_generator": 65536.0},
        {"gradient_scale_discriminator": 32768.0},
    ]


def test_gradients_of_each_turn_are_logged(tmp_path):
    recorder = Recorder()
    session_with(tmp_path, techniques.LogGradients("2it"), recorder, kind=AdversarialSession, num_epochs=1)()
    for part in ("generator", "discriminator"):
        tag = f"training/gradients/{part}.0.weight/iterations"
        assert [step for found, step in recorder.histograms if found == tag] == [2, 4]


class NanOnce(AdversarialSession):
    def loss_function(self, *, generated, real=None):
        loss = super().loss_function(generated=generated, real=real)
        is_bad = self.turn == "generator" and self._run.progress.iterations == 2
        return loss * float("nan") if is_bad else loss


def test_a_turn_that_is_not_finite_is_skipped_alone(tmp_path, caplog):
    seen = []

    class Steps:
        @hookimpl(wrapper=True)
        def run_optimizer_step(self, run):
            seen.append((run.progress.iterations, run.turn))
            return (yield)

    session = session_with(tmp_path, Steps(), kind=NanOnce, nan_policy="skip", num_epochs=1)
    session()
    both = ("discriminator", "generator")
    assert seen == [(number, name) for number in range(5) for name in both if (number, name) != (2, "generator")]
    assert "its loss is nan. It is skipped in the turn of 'generator'." in caplog.text


def test_a_turn_that_is_never_finite_ends_the_run(tmp_path, monkeypatch):
    class Never(AdversarialSession):
        def loss_function(self, *, generated, real=None):
            loss = super().loss_function(generated=generated, real=real)
            return loss * float("nan") if self.turn == "generator" else loss

    monkeypatch.setattr("torchbase.hooks.nan_skip.MAXIMUM_IN_A_ROW", 4)
    with pytest.raises(NonFiniteError, match="4 mini-batches of training in a row were skipped"):
        session_with(tmp_path, kind=Never, nan_policy="skip")()


class FewSession(ScheduledSession):
    """Each mini-batch of 8 samples has 4 parts."""

    def init_datasets(self):
        training, validation = super().init_datasets()
        return training, ValidationDatasetsDict(
            datasets=validation.datasets[:1], only_for_demo=(False,), names=("valid",)
        )


def train(index, parent):
    session = session_with(
        parent,
        *make(["accumulation", "average", "clipping", "sharpness"]),
        kind=FewSession,
        mini_batch_size=8,
        mini_batch_parts=4,
        drop_last=True,
    )
    session()
    return session.network.state_dict(), session.optimizer.state_dict(), session._run.training.averages


@pytest.mark.parametrize("count", in_suite([2, 3, 4], 2))
def test_several_processes_train_as_one(tmp_path, count):
    expected = train(0, tmp_path / "1")
    for state in several.values_of(count, train, tmp_path / str(count)):
        assert different_values(state, expected) == []


class Draws:
    """Notes what each part of a mini-batch would draw first."""

    def __init__(self):
        self.drawn = {}

    @hookimpl(wrapper=True)
    def run_part(self, run, phase, part):
        if phase.is_training:
            with isolate_rng():
                self.drawn[run.progress.iterations, run.turn, part] = torch.rand(1).item()
        return (yield)


def test_each_part_of_each_turn_draws_numbers_of_its_own(tmp_path):
    draws = Draws()
    settings = {"mini_batch_size": 6, "mini_batch_parts": 3}
    session_with(tmp_path, draws, kind=AdversarialSession, num_epochs=1, **settings)()
    assert len(draws.drawn) == 3 * 2 * 3
    assert len(set(draws.drawn.values())) == len(draws.drawn)


def refused(index, parent):
    class Sharded(TinySession):
        def init_optimizer(self):
            return {"all": super().init_optimizer()}

    with pytest.raises(StepError, match="1 optimizers by name, and a network that is sharded"):
        session_with(parent, kind=Sharded, distributed="shard", mini_batch_parts=2)()
    return "refused"


def test_a_sharded_network_is_refused(tmp_path):
    if (reason := several.reason_against_sharding()) is not None:
        pytest.skip(reason)
    several.import_sharding()
    assert several.values_of(2, refused, tmp_path) == ["refused"] * 2
