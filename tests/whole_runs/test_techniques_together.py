"""Combined training techniques: in any order, all at once, and in runs that are stopped and resumed."""

import random
from dataclasses import replace
from itertools import combinations

import pytest
import torch
from divided import in_suite
from every_technique import RecordingTrial, final_state_of, loss_of, session_with, train_by_hand, training_differences
from tiny import StopAt, TinySession
from torch.optim.lr_scheduler import ExponentialLR, LinearLR, SequentialLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from torchbase import hooks as techniques
from torchbase.files.bitwise import different_values


class PictureSession(TinySession):
    """Returns a picture from its forward pass."""

    def forward_pass(self, mini_batch):
        return {**super().forward_pass(mini_batch), "picture": mini_batch["x"][:, None]}


class ValidatedWithin(PictureSession):
    """Validates within its epochs of five iterations."""

    def init_datasets(self):
        training, validation = super().init_datasets()
        return training, replace(validation, every=("2it", "3it"))


def average(averages, weights, updates):
    """The averages of ExponentialMovingAverage(0.8), whose first decays are lower."""
    updates = int(updates)
    get_ema_multi_avg_fn(min(0.8, (1 + updates) / (10 + updates)))(averages, weights, updates)


def warm_up_and_decay(optimizer):
    return SequentialLR(optimizer, [LinearLR(optimizer, 0.1, total_iters=3), ExponentialLR(optimizer, 0.9)], [3])


TECHNIQUES = {
    "accumulation": lambda: techniques.GradientAccumulation(2),
    "activations": lambda: techniques.ActivationCheckpointing("layers.0"),
    "average": lambda: techniques.ExponentialMovingAverage(0.8, use_buffers=True),
    "bf16": lambda: techniques.MixedPrecision("bf16"),
    "clipping": lambda: techniques.GradientClipping(norm=0.5),
    "compile": lambda: techniques.Compile(backend="eager"),
    "early stopping": lambda: techniques.EarlyStopping("loss", "training", patience=2, min_delta=0.2),
    "fp16": lambda: techniques.MixedPrecision("fp16"),
    "freeze": lambda: techniques.Freeze("layers.0.*"),
    "gradients": lambda: techniques.LogGradients("2it"),
    "profile": lambda: techniques.Profile(range(3, 5)),
    "pruning": lambda: techniques.Pruning(RecordingTrial()),
    "retry": techniques.RetryOnOutOfMemory,
    "samples": lambda: techniques.LogSamples(2, ["picture"]),
    "schedule": lambda: techniques.LearningRateSchedule(warm_up_and_decay, "1it"),
    "time limit": lambda: techniques.TimeLimit("1000s"),
    "times": techniques.HookTimes,
    "unfreeze": lambda: techniques.Unfreeze("layers.0.weight", at="1ep"),
    "weights": lambda: techniques.LogWeights("3it"),
}
PAIRS = [pair for pair in combinations(TECHNIQUES, 2) if pair != ("bf16", "fp16")]
ALL = {
    precision: [name for name in TECHNIQUES if name not in ({"bf16", "fp16"} - {precision})]
    for precision in ("bf16", "fp16")
}
WITH_PRECISION = ["accumulation", "average", "clipping", "compile", "schedule"]


def make(names):
    return [TECHNIQUES[name]() for name in names]


def end_without_times(session):
    end = final_state_of(session)
    end["hooks"].pop("time_limit", None)
    return end


def run_in_parts(parent, names, stops, kind, **config):
    session = session_with(parent, *make(names), kind=kind, dropout=0.3, **config)
    for stop in stops:
        session.register(StopAt(stop))
        session()
        session = kind.resume(parent)
        for hook in make(names):
            session.register(hook)
    session()
    return session


# Those that change the training, with each other, and each other one with one of them.
CHANGING = {"accumulation", "average", "clipping", "fp16", "freeze", "schedule", "unfreeze"}
IN_SUITE = [pair for pair in PAIRS if CHANGING.issuperset(pair) or ("accumulation" in pair and set(pair) - CHANGING)]


@pytest.mark.parametrize(("one", "other"), in_suite(PAIRS, *IN_SUITE))
def test_two_techniques_train_the_same_in_either_order_and_when_resumed(tmp_path, one, other):
    pair = (one, other)
    whole = session_with(tmp_path / "whole", *make(pair), kind=PictureSession, dropout=0.3)
    whole()
    resumed = run_in_parts(tmp_path / "resumed", pair[::-1], [4], PictureSession)
    assert different_values(end_without_times(whole), end_without_times(resumed)) == []


@pytest.fixture(scope="module", params=[PictureSession, ValidatedWithin])
def kind(request):
    return request.param


@pytest.fixture(scope="module", params=ALL)
def precision(request):
    return request.param


@pytest.fixture(scope="module")
def uninterrupted(kind, precision, tmp_path_factory):
    """The end of a run with all techniques."""
    parent = tmp_path_factory.mktemp("whole")
    whole = session_with(parent, *make(ALL[precision]), kind=kind, dropout=0.3, num_epochs=4)
    whole()
    return end_without_times(whole)


@pytest.mark.parametrize("seed", in_suite(range(3), 0))
def test_all_techniques_at_once_resume_exactly_from_any_iteration_and_in_any_order(
    tmp_path, uninterrupted, kind, precision, seed
):
    draw = random.Random(seed)
    names, stops = draw.sample(ALL[precision], len(ALL[precision])), sorted(draw.sample(range(1, 20), 4))
    resumed = run_in_parts(tmp_path, names, stops, kind, num_epochs=4)
    assert different_values(uninterrupted, end_without_times(resumed)) == []


@pytest.mark.parametrize("kind", in_suite([PictureSession, ValidatedWithin], ValidatedWithin))
def test_techniques_compiled_ahead_of_time_resume_exactly(tmp_path, kind):
    def hooks():
        torch.compiler.reset()  # as in a new process
        return [
            *make(["accumulation", "average", "clipping", "schedule", "fp16"]),
            techniques.Compile(backend="aot_eager"),
        ]

    def run(parent, stops):
        session = session_with(parent, *hooks(), kind=kind, dropout=0.3)
        for stop in stops:
            session.register(StopAt(stop))
            session()
            session = kind.resume(parent)
            for hook in hooks():
                session.register(hook)
        session()
        return session

    whole, resumed = run(tmp_path / "whole", []), run(tmp_path / "resumed", [3, 7])
    assert different_values(final_state_of(whole), final_state_of(resumed)) == []


@pytest.mark.parametrize("kind", [TinySession, ValidatedWithin])
def test_combined_techniques_train_like_the_hand_written_loop(tmp_path, kind):
    scaler, parts, iterations = torch.amp.GradScaler("cpu"), {}, []

    def step(session, batch):
        if not parts:
            parts["scheduler"] = warm_up_and_decay(session.optimizer)
            parts["averages"] = AveragedModel(session.network, multi_avg_fn=average, use_buffers=True)
        iterations.append(batch)
        number = (len(iterations) - 1) % 5  # within the epoch: the fifth mini-batch is a step on its own
        with torch.autocast("cpu", torch.float16):
            loss = loss_of(session, batch)
        scaler.scale(loss / (1 if number == 4 else 2)).backward()
        if number in (0, 2):
            return
        before = scaler.get_scale()
        scaler.unscale_(session.optimizer)
        torch.nn.utils.clip_grad_norm_(session.network.parameters(), 0.5)
        scaler.step(session.optimizer)
        scaler.update()
        session.optimizer.zero_grad()
        if scaler.get_scale() >= before:
            parts["scheduler"].step()
            parts["averages"].update_parameters(session.network)
            parts["steps"] = parts.get("steps", 0) + 1

    by_hand = train_by_hand(tmp_path, step, epochs=4)
    session = session_with(tmp_path, *make([*WITH_PRECISION, "fp16"]), kind=kind, num_epochs=4)
    session()
    assert training_differences(session, by_hand) == []
    states = final_state_of(session)["hooks"]
    assert different_values(states["exponential_moving_average"], dict(parts["averages"].state_dict())) == []
    assert different_values(states["mixed_precision"], scaler.state_dict()) == []
    assert different_values(states["learning_rate_schedule"]["scheduler"], parts["scheduler"].state_dict()) == []
    assert 0 < parts["steps"] < 12  # some overflowed
