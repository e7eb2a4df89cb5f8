from dataclasses import replace

import pytest
import torch
from every_technique import final_state_of, loss_of, session_with, train_by_hand, training_differences
from tiny import StopAt, TinySession, make_dataset
from torch.utils.data import DataLoader

from torchbase import ValidationDatasetsDict, hookimpl
from torchbase.data.parts import SplitMiniBatch
from torchbase.errors import ConfigError, HookError
from torchbase.files.bitwise import different_values
from torchbase.hooks import (
    EarlyStopping,
    ExponentialMovingAverage,
    GradientAccumulation,
    GradientClipping,
    MiniBatchParts,
    MixedPrecision,
    RetryOnOutOfMemory,
)


class Session(TinySession):
    """Trains on 40 rows in mini-batches of 12, 12, 12 and 4, so that batch normalization has two samples a part."""

    def init_datasets(self):
        valid = ValidationDatasetsDict(datasets=(make_dataset(14, 0.1),), only_for_demo=(False,), names=("valid",))
        return make_dataset(40), valid


class StreamSession(Session):
    def init_datasets(self):
        training, valid = super().init_datasets()
        return training.to_iterable_dataset(num_shards=2), valid


class StockLoaderSession(Session):
    def init_dataloaders(self):
        valid = {name: self._loader(one, f"validation-{name}", is_training=False) for name, one in self._named()}
        return DataLoader(self.dataset_train.with_format("torch"), batch_size=12, shuffle=True), valid

    def _named(self):
        return self.datasets_valid_dict.items()


class AugmentedSession(Session):
    def dataloader_collate_function(self, samples):
        x = torch.stack([sample["x"] for sample in samples])
        return {"x": x + 0.1 * torch.randn_like(x), "y": torch.stack([sample["y"] for sample in samples])}


class SessionWithoutDrawsAndBuffers(Session):
    architecture = "Linear"

    def init_network(self):
        return torch.nn.Linear(3, 1)

    def forward_pass(self, mini_batch):
        return {"output": self.network(mini_batch["x"]).squeeze(1), "target": mini_batch["y"]}


def trained(parent, *hooks, kind=Session, dropout=0.3, stop_at=None, **session):
    settings = {"mini_batch_size": 12, **session}
    created = session_with(parent, *hooks, kind=kind, dropout=dropout, **settings)
    if stop_at is None:
        created()
        return created
    created.register(StopAt(stop_at))
    created()
    resumed = kind.resume(parent)
    for hook in hooks:
        resumed.register(type(hook)(*HOOKS[type(hook)]))
    resumed()
    return resumed


def step_in_parts(session, batch):
    """One iteration in parts by plain PyTorch: a sum in a tree, and the buffers of the first part."""
    network = session.network
    samples = sum(len(part.mini_batch["x"]) for part in batch.parts)
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    gradients, buffers = [], None
    for part in batch.parts:
        for name, buffer in network.named_buffers():
            buffer.copy_(before[name])
        (loss_of(session, part.mini_batch) * (len(part.mini_batch["x"]) / samples)).backward()
        buffers = buffers or {name: buffer.clone() for name, buffer in network.named_buffers()}
        gradients.append([parameter.grad for parameter in network.parameters()])
        session.optimizer.zero_grad()
    for name, buffer in network.named_buffers():
        buffer.copy_(buffers[name])
    pairs = [[a + b for a, b in zip(*gradients[first : first + 2], strict=True)] for first in (0, 2)]
    for parameter, one, other in zip(network.parameters(), *pairs, strict=True):
        parameter.grad = one + other
    session.optimizer.step()
    session.optimizer.zero_grad()


def test_a_run_in_parts_equals_a_loop_by_hand(tmp_path):
    session = trained(tmp_path / "hook", dropout=0.0, mini_batch_size=8, mini_batch_parts=4)
    settings = {"mini_batch_size": 8, "mini_batch_parts": 4}
    by_hand = train_by_hand(tmp_path / "hand", step_in_parts, kind=Session, **settings)
    assert training_differences(session, by_hand) == []


@pytest.mark.parametrize("kind", [Session, AugmentedSession, StreamSession])
def test_a_single_part_changes_no_bit(tmp_path, kind):
    whole, single = trained(tmp_path / "whole", kind=kind), trained(tmp_path / "single", kind=kind, mini_batch_parts=1)
    assert training_differences(whole, single) == []
    assert whole._run.training.averages == single._run.training.averages


class ValidatedWithin(Session):
    def init_datasets(self):
        training, valid = super().init_datasets()
        return training, replace(valid, every="1it")


def test_a_validation_within_training_leaves_accumulated_gradients(tmp_path):
    runs = [
        trained(tmp_path / str(parts), GradientAccumulation(3), kind=ValidatedWithin, mini_batch_parts=parts)
        for parts in (None, 1)
    ]
    assert training_differences(*runs) == []


def test_gradients_of_parts_of_different_sizes_add_up_to_those_of_the_mini_batch(tmp_path):
    def final(parent, **session):
        state = trained(parent, kind=SessionWithoutDrawsAndBuffers, **session).network.state_dict()
        return torch.cat([state["weight"].flatten(), state["bias"]])

    whole = final(tmp_path / "whole")
    for parts in (2, 5, 12):
        assert torch.allclose(final(tmp_path / str(parts), mini_batch_parts=parts), whole, rtol=1e-4)


HOOKS = {
    GradientAccumulation: (2,),
    GradientClipping: (0.5,),
    ExponentialMovingAverage: (0.9,),
    MixedPrecision: (),
    RetryOnOutOfMemory: (),
    EarlyStopping: ("loss",),
}


@pytest.mark.parametrize("kind", [Session, AugmentedSession, StreamSession, StockLoaderSession])
@pytest.mark.parametrize("stop_at", [2, 5])
def test_a_run_in_parts_resumes_exactly(tmp_path, kind, stop_at):
    runs = [
        trained(tmp_path / str(at), kind=kind, stop_at=at, mini_batch_parts=2, checkpoint_every_n_iterations=1)
        for at in (None, stop_at)
    ]
    assert different_values(*map(final_state_of, runs)) == []


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.__name__)
def test_a_technique_resumes_exactly_in_parts(tmp_path, hook):
    runs = [
        trained(
            tmp_path / str(at),
            hook(*HOOKS[hook]),
            stop_at=at,
            mini_batch_parts=2,
            checkpoint_every_n_iterations=1,
        )
        for at in (None, 3)
    ]
    assert different_values(*map(final_state_of, runs)) == []


def test_workers_read_the_same_parts(tmp_path):
    runs = [
        trained(tmp_path / str(workers), kind=AugmentedSession, mini_batch_parts=2, dataloader_num_workers=workers)
        for workers in (0, 2)
    ]
    assert training_differences(*runs) == []


class Recorder:
    """Records what the hooks of an iteration see."""

    def __init__(self):
        self.parts, self.ends, self.batches = [], [], []

    @hookimpl
    def on_iteration_start(self, batch):
        self.batches.append(batch)

    @hookimpl(wrapper=True)
    def run_part(self, phase, batch, part, share):
        self.parts.append((phase.name, part, len(batch["x"]), share, torch.rand(()).item()))
        return (yield)

    @hookimpl
    def on_iteration_end(self, phase):
        self.ends.append((phase.name, phase.samples, tuple(phase.outputs["output"].shape), phase.values["loss"]))


def test_hooks_see_one_iteration_with_the_outputs_of_all_parts(tmp_path):
    recorder = Recorder()
    trained(tmp_path, recorder, mini_batch_parts=5, num_epochs=1, dropout=0.0, kind=SessionWithoutDrawsAndBuffers)
    training = [end[1:3] for end in recorder.ends if end[0] == "training"]
    assert training == [(12, (12,)), (12, (12,)), (12, (12,)), (4, (4,))]
    assert [part[1:3] for part in recorder.parts[:5]] == [(0, 3), (1, 3), (2, 2), (3, 2), (4, 2)]
    assert [part[1:4] for part in recorder.parts if part[0] == "training"][15:] == [(p, 1, 0.25) for p in range(4)]
    assert len({part[4] for part in recorder.parts[:5]}) == 5  # each part has random numbers of its own
    assert all(isinstance(batch, SplitMiniBatch) for batch in recorder.batches)


def test_values_and_metrics_are_those_of_the_mini_batch(tmp_path):
    averages = []
    for parts in (None, 4):
        session = trained(
            tmp_path / str(parts), kind=SessionWithoutDrawsAndBuffers, mini_batch_parts=parts, num_epochs=1
        )
        averages.append({**session._run.training.averages, **session._run.validation[0].averages})
        rows = session.predict_dataset(session.datasets_valid_dict["valid"])["output"]
        averages[-1]["rows"] = torch.tensor(rows)
        averages[-1].update({f"evaluated {k}": v for k, v in session.evaluate(session.dataset_train).items()})
    assert averages[0].keys() == averages[1].keys()
    for name, value in averages[0].items():
        assert torch.allclose(torch.as_tensor(value), torch.as_tensor(averages[1][name]), rtol=1e-4), name


class OutOfMemoryOnce:
    """Runs out of memory in one part of one iteration, unless fewer samples are passed."""

    @hookimpl(wrapper=True)
    def run_forward(self, run, phase, batch):
        result = yield
        if phase.is_training and run.progress.iterations == 1 and len(batch["x"]) == 6:
            raise torch.OutOfMemoryError("as on a GPU")
        return result


def test_a_part_that_does_not_fit_into_memory_is_retried_alone(tmp_path, caplog):
    kind = SessionWithoutDrawsAndBuffers
    plain = trained(tmp_path / "plain", kind=kind, mini_batch_parts=2)
    with caplog.at_level("INFO", logger="torchbase"):
        retried = trained(tmp_path / "retry", OutOfMemoryOnce(), RetryOnOutOfMemory(), kind=kind, mini_batch_parts=2)
    assert caplog.text.count("computed in 2 parts") == 2
    for name, value in plain.network.state_dict().items():
        assert torch.allclose(value, retried.network.state_dict()[name], rtol=1e-5)


class NanInOnePart(Session):
    """The loss of the second part of the third iteration is NaN."""

    def forward_pass(self, mini_batch):
        outputs = super().forward_pass(mini_batch)
        if self.network.training and self._run.progress.iterations == 2 and self.part == 1:
            outputs["output"] = outputs["output"] * float("nan")
        return outputs


class NotePart:
    def __init__(self, session):
        self.session = session

    @hookimpl(wrapper=True)
    def run_part(self, part):
        self.session.part = part
        return (yield)


def test_nan_in_one_part_skips_the_mini_batch_without_a_trace(tmp_path):
    session = session_with(
        tmp_path / "nan", kind=NanInOnePart, mini_batch_size=12, mini_batch_parts=2, nan_policy="skip", dropout=0.3
    )
    session.part = 0
    session.register(NotePart(session))
    session()
    assert session.hooks["nan_skip"] is not None
    files = list((tmp_path / "nan").glob("*/bad_mini_batches/*.pth"))
    assert len(files) == 1
    assert torch.load(files[0], weights_only=True)["rows"] != []


def test_an_own_iteration_is_refused(tmp_path):
    class OwnIteration:
        @hookimpl
        def run_iteration(self, run, phase, batch):
            raise AssertionError("never called")

    with pytest.raises(HookError, match=r"'mini_batch_parts' and 'own_iteration' both implement .* run_part instead"):
        trained(tmp_path, OwnIteration(), mini_batch_parts=2)


@pytest.mark.parametrize("parts", [0, -1, 2.0, True, "2"])
def test_the_number_of_parts_is_checked(parts):
    with pytest.raises(HookError, match="number of parts, at least 1"):
        MiniBatchParts(parts)


@pytest.mark.parametrize(
    ("session", "message"),
    [
        ({"mini_batch_parts": 13}, "mini_batch_parts: expected at most mini_batch_size, which is 12, got 13"),
        (
            {"mini_batch_parts": 4, "validation_mini_batch_size": 3},
            "mini_batch_parts: expected at most validation_mini_batch_size, which is 3, got 4",
        ),
        ({"mini_batch_parts": 0}, "mini_batch_parts: expected a whole number of at least 1, or None, got"),
    ],
)
def test_more_parts_than_samples_are_refused(tmp_path, session, message):
    with pytest.raises(ConfigError, match=message):
        trained(tmp_path, **session)


def test_a_mini_batch_without_samples_is_refused(tmp_path):
    class Loader:
        def __iter__(self):
            yield {"number": 1}

    class OwnLoader(Session):
        def init_dataloaders(self):
            return Loader(), super().init_dataloaders()[1]

    session = session_with(tmp_path, kind=OwnLoader, mini_batch_size=12, mini_batch_parts=2)
    session.unregister("rehearsal")
    with pytest.raises(HookError, match="can't be split into 2 parts, since none of its columns"):
        session()


def test_an_unequal_number_of_parts_is_another_experiment(tmp_path):
    session = trained(tmp_path, mini_batch_parts=2, num_epochs=1)
    config = {**session._config.as_given}
    config["session"] = {**config["session"], "mini_batch_parts": 3, "num_epochs": 2}
    with pytest.raises(ConfigError, match="mini_batch_parts"):
        Session(config, tmp_path, False, session.run_dir.rpartition("/")[2])
