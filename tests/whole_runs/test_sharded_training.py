"""A training whose network is sharded over processes equals that of one process, in every bit."""

import logging
from pathlib import Path

import pytest
import several
import torch
from every_technique import Recorder, session_with
from whole_runs.test_several_processes import (
    CASES,
    Case,
    Few,
    NanInLastPart,
    Picture,
    Queue,
    Session,
    Stateful,
    Uneven,
    case,
    dataset,
    per_epoch,
)

from torchbase import hookimpl
from torchbase import hooks as techniques
from torchbase.distributed.shards import is_shard, local_of, whole_of
from torchbase.errors import HookError, ProcessLostError, StepError
from torchbase.files.bitwise import different_values


class ShardedSession(Session):
    """Its optimizer has the same bits on a shard as on the whole, also on CPUs."""

    def init_optimizer(self):
        return torch.optim.Adam(self.network.parameters(), lr=self.config_session.learning_rate)


class ShardedUneven(ShardedSession):
    rows = 43
    architecture = Uneven.architecture
    init_network = Uneven.init_network


def whole(value):
    """Returns nested values with whole tensors in place of shards. All processes have to call it."""
    if isinstance(value, dict):
        return {name: whole(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [whole(one) for one in value]
    return whole_of(value).detach().clone() if isinstance(value, torch.Tensor) else value


def trained(parent, case, distributed="shard"):
    recorder = Recorder()
    settings = {"mini_batch_size": 20, "mini_batch_parts": case.parts, "distributed": distributed, **case.settings}
    session = session_with(
        parent, *case.hooks(), recorder, kind=case.kind, dropout=0.3, metrics=case.metrics, **settings
    )
    session.unregister("checkpoint")
    session.unregister("best_validation")
    return session, session(), recorder


def train(index, parent, case, distributed="shard"):
    session, summary, recorder = trained(parent, case, distributed)
    averages = session.hooks.get("exponential_moving_average")
    state = {
        "network": whole(dict(session.network.state_dict())),
        "optimizer": whole(session.optimizer.state_dict()["state"]),
        "moving averages": None if averages is None else whole(dict(averages.state_dict())),
        "averages": {phase: dict(averages) for phase, averages in summary.averages.items()},
        "stop": summary.stop_reason,
    }
    if index == 0:
        state |= {"histograms": recorder.histograms, "images": recorder.images}
    return state


def check_equals_one_process(tmp_path, case, counts=(2,), **settings):
    expected = train(0, tmp_path / "1", case)
    for count in counts:
        results = several.values_of(count, train, tmp_path / str(count), case, **settings)
        for index, state in enumerate(results):
            of_process = {name: value for name, value in expected.items() if name in state}
            assert different_values(state, of_process) == [], f"process {index} of {count}"


MANY = [
    lambda: techniques.GradientAccumulation(2),
    lambda: techniques.GradientClipping(norm=0.5),
    lambda: techniques.ExponentialMovingAverage(0.8, use_buffers=True),
    lambda: techniques.LearningRateSchedule(per_epoch, "1it"),
]


@pytest.mark.parametrize("kind", [ShardedSession, ShardedUneven])
def test_any_number_of_processes_and_either_way_to_hold_the_network_give_the_same_bits(tmp_path, kind):
    shared = Case(kind, lambda: [make() for make in MANY])
    check_equals_one_process(tmp_path, shared, counts=(2, 4, 8) if kind is ShardedSession else (2, 4))
    expected = train(0, tmp_path / "replicated", shared, "replicate")
    for distributed in ("replicate", "shard"):
        for state in several.values_of(2, train, tmp_path / distributed, shared, distributed):
            of_process = {name: value for name, value in expected.items() if name in state}
            assert different_values(state, of_process) == []


CHOSEN = [
    *("fewer samples than parts", "sizes of its own", "augmented", "validated within", "stream", "loader of its own"),
    *("metrics", "clipping by value", "accumulation of few rows", "accumulation validated within", "plateau"),
    *("early stopping", "samples", "profile", "NaN is skipped", "NaN stops"),
]


@pytest.mark.parametrize("name", CHOSEN)
def test_each_technique_and_kind_of_data_gives_the_bits_of_one_process(tmp_path, name):
    check_equals_one_process(tmp_path, CASES[name])


MANY_MORE = [
    *MANY,
    lambda: techniques.Compile(backend="eager"),
    lambda: techniques.Freeze("layers.0.*"),
    lambda: techniques.Unfreeze("layers.0.weight", at="1ep"),
    lambda: techniques.LogGradients("2it"),
    lambda: techniques.LogWeights("3it"),
    lambda: techniques.LogSamples(6, ["picture"]),
    lambda: techniques.EarlyStopping("loss", "training", patience=2, min_delta=0.2),
    lambda: techniques.TimeLimit("1000s"),
    techniques.HookTimes,
]


def test_many_techniques_together_give_the_bits_of_one_process(tmp_path):
    check_equals_one_process(
        tmp_path, Case(Picture, lambda: [make() for make in MANY_MORE], settings={"num_epochs": 3})
    )


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("kind", [Session, "BlocksSession"])
def test_mixed_precision_has_the_same_bits_on_each_number_of_processes_and_is_near_to_one(tmp_path, precision, kind):
    shared = case(
        lambda: techniques.MixedPrecision(precision),
        lambda: techniques.GradientClipping(norm=0.5),
        kind=BlocksSession if kind == "BlocksSession" else kind,
        learning_rate=0.001,
    )
    first, *states = [
        state for count in (2, 4) for state in several.values_of(count, train, tmp_path / str(count), shared)[1:]
    ]
    for state in states:
        assert different_values(state, first) == []
    of_one = train(0, tmp_path / "1", shared)["averages"]["training"]["loss"]
    assert first["averages"]["training"]["loss"] == pytest.approx(of_one, rel=0.02)


def test_a_hook_whose_state_forward_passes_change_gives_the_bits_of_one_process(tmp_path):
    check_equals_one_process(tmp_path, case(Queue))


def test_without_parts_a_run_repeats_itself(tmp_path):
    plain = Case(Session, parts=None)
    first, _ = several.values_of(2, train, tmp_path / "first", plain)
    second, _ = several.values_of(2, train, tmp_path / "second", plain)
    assert different_values(first, second) == []


class Blocks(torch.nn.Module):
    """Layers that occur several times, and what is special about a network in one place each."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(3, 8)
        self.blocks = torch.nn.ModuleList(
            torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.LayerNorm(8), torch.nn.Tanh()) for _ in range(3)
        )
        self.last = torch.nn.Linear(8, 8)
        self.last.weight = self.first_square = torch.nn.Parameter(torch.randn(8, 8))  # tied
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.no_rows = torch.nn.Parameter(torch.zeros(0, 3))
        self.one_row = torch.nn.Parameter(torch.randn(1, 8))
        self.frozen = torch.nn.Parameter(torch.randn(5, 8), requires_grad=False)
        self.unused = torch.nn.Parameter(torch.randn(5))
        self.register_buffer("shift", torch.randn(8), persistent=False)

    def forward(self, x):
        x = self.first(x)
        for block in self.blocks:
            x = block(x) @ self.first_square
        x = (self.last(x) + self.shift + self.no_rows.sum()) * self.scale + self.one_row
        return (x * self.frozen.mean(dim=0)).sum(dim=1).clone()


class BlocksSession(Session):
    architecture = "Blocks"

    def init_network(self):
        return Blocks()


class OutsideSession(BlocksSession):
    """Has a parameter outside of the network, and a plain tensor in it: both need memory on each process."""

    def init_network(self):
        network = Blocks()
        network.offset = torch.randn(1)
        self.weight = torch.nn.Parameter(torch.randn(()))
        return network

    def init_optimizer(self):
        return torch.optim.SGD([*self.network.parameters(), self.weight], lr=0.01, momentum=0.9)

    def loss_function(self, *, output, target):
        return torch.nn.functional.mse_loss(output * self.weight + self.network.offset, target)


@pytest.mark.parametrize("kind", [BlocksSession, OutsideSession])
def test_every_kind_of_parameter_gives_the_bits_of_one_process(tmp_path, kind):
    shared = case(lambda: techniques.GradientClipping(norm=0.5), kind=kind)
    check_equals_one_process(tmp_path, shared, counts=(2, 4))


def look_at(index, parent):
    session = session_with(parent, kind=BlocksSession, mini_batch_size=20, distributed="shard")
    network = session.network
    names = [name for name, _ in network.named_parameters()]
    return names, {
        name: (is_shard(one), tuple(one.shape), tuple(local_of(one).shape)) for name, one in network.named_parameters()
    }


def test_parameters_keep_their_names_and_each_process_has_some_rows(tmp_path):
    plain = Blocks()
    for index, (names, parameters) in enumerate(several.values_of(2, look_at, tmp_path)):
        assert names == [name for name, _ in plain.named_parameters()]
        assert parameters["first.weight"] == (True, (8, 3), (4, 3))
        assert parameters["frozen"] == (True, (5, 8), (3 - index, 8))
        assert parameters["one_row"] == (True, (1, 8), (1 - index, 8))
        assert parameters["scale"] == (False, (), ())
        assert parameters["no_rows"] == (False, (0, 3), (0, 3))


class CountBytes:
    """Counts the bytes of parameters, gradients and states of the optimizer that this process holds."""

    def __init__(self):
        self.bytes = 0

    @hookimpl(wrapper=True)
    def run_optimizer_step(self, run):
        parameters = list(run.network.parameters())
        gradients = [one.grad for one in parameters if one.grad is not None]
        states = [one for state in run.optimizer.state.values() for one in state.values()]
        tensors = [*parameters, *gradients, *(one for one in states if isinstance(one, torch.Tensor))]
        self.bytes = sum(local_of(one).nbytes for one in tensors)
        return (yield)


class WideSession(Session):
    architecture = "Sequential"

    def init_network(self):
        layers = [torch.nn.Linear(3, 64), *(torch.nn.Linear(64, 64) for _ in range(4)), torch.nn.Linear(64, 1)]
        return torch.nn.Sequential(*layers, torch.nn.Flatten(0))


def count_bytes(index, parent, distributed):
    counter = CountBytes()
    trained(parent, Case(WideSession, lambda: [counter], settings={"num_epochs": 1}), distributed)
    return counter.bytes


def test_a_process_of_four_holds_a_quarter_of_the_network_its_gradients_and_the_optimizer(tmp_path):
    replicated = several.values_of(4, count_bytes, tmp_path / "replicate", "replicate")
    sharded = several.values_of(4, count_bytes, tmp_path / "shard", "shard")
    assert len(set(replicated)) == 1
    assert max(sharded) <= 0.3 * replicated[0]


def predict(index, parent, trained_first):
    shared = Case(Few)
    session = trained(parent, shared)[0] if trained_first else None
    if session is None:
        session = session_with(
            parent, kind=Few, mini_batch_size=20, mini_batch_parts=8, distributed="shard", dropout=0.3
        )
    seven = dataset(7, 0.2)
    outputs = [dict(one) for one in session.predict(seven)]
    return session.evaluate(seven), session.predict_dataset(seven).to_dict(), outputs


@pytest.mark.parametrize("trained_first", [True, False])
def test_evaluations_and_predictions_are_those_of_one_process(tmp_path, trained_first):
    expected = predict(0, tmp_path / "1", trained_first)
    for result in several.values_of(4, predict, tmp_path / "4", trained_first):
        assert different_values(result, expected) == []


def raises(index, parent, case, error, text):
    with pytest.raises(error, match=text):
        trained(parent, case)


REFUSED = {
    "a changed parameter": (Case(Stateful), StepError, "forward_pass changes the parameter 'mean', and a sharded"),
    "a retry": (case(techniques.RetryOnOutOfMemory), HookError, "'retry_on_out_of_memory' can't be used with"),
    "a graph": (case(techniques.NetworkGraph), HookError, "'network_graph' can't be used with"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_not_be_sharded_is_refused_before_training(tmp_path, name):
    several.values_of(2, raises, tmp_path, *REFUSED[name])


class Choosing(torch.nn.Module):
    """Uses one of two parameters of one size, by its samples."""

    def __init__(self):
        super().__init__()
        self.left = torch.nn.Parameter(torch.ones(3))
        self.right = torch.nn.Parameter(torch.ones(3))

    def forward(self, x):
        return (x * (self.left if x[0, 0] > 0 else self.right)).sum(dim=1)


class ChoosingUnits(torch.nn.Module):
    """Uses one of two units of one size, by its samples."""

    def __init__(self):
        super().__init__()
        self.left, self.right = torch.nn.Linear(3, 1), torch.nn.Linear(3, 1)

    def forward(self, x):
        return (self.left if x[0, 0] > 0 else self.right)(x).sum(dim=1)


class ChoosingSession(Session):
    architecture = "Choosing"

    def init_network(self):
        return Choosing()


class ChoosingUnitsSession(Session):
    architecture = "ChoosingUnits"

    def init_network(self):
        return ChoosingUnits()


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (ChoosingSession, "The parameter '(left|right)' gets a gradient in the part of a mini-batch that process"),
        (ChoosingUnitsSession, "The parameter|computed different units of the sharded network"),
    ],
)
def test_a_network_that_chooses_parameters_by_its_samples_is_an_error(tmp_path, kind, text):
    several.values_of(2, raises, tmp_path, Case(kind), StepError, text)


class PartSession(BlocksSession):
    def forward_pass(self, mini_batch):
        output = self.network(mini_batch["x"]) + self.network.last.weight.sum()
        return {"output": output, "target": mini_batch["y"]}


def notes_of_mixed_tensors(index, parent):
    with pytest.raises(RuntimeError, match=r"mixed torch\.Tensor and DTensor") as caught:
        trained(parent, Case(PartSession))
    return caught.value.__notes__


def test_parameters_that_are_used_outside_of_a_call_of_the_network_are_explained(tmp_path):
    for notes in several.values_of(2, notes_of_mixed_tensors, tmp_path):
        assert any("whole only while the network is called" in note for note in notes)


class FailingSession(NanInLastPart):
    """Fails on the last process, in its second iteration."""

    def forward_pass(self, mini_batch):
        if self.network.training and self._run.progress.iterations == 1 and self.part == 7:
            raise ValueError("a fault of the user's")
        return super().forward_pass(mini_batch)


def error_of(index, parent):
    try:
        trained(parent, Case(FailingSession))
    except (ValueError, ProcessLostError) as error:
        return type(error).__name__, str(error)


def test_an_error_on_one_process_ends_all(tmp_path):
    first, second = several.values_of(2, error_of, tmp_path)
    assert first[0] == "ProcessLostError"
    assert second == ("ValueError", "a fault of the user's")


class Lines(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


class Own(torch.optim.SGD):
    """An optimizer of which nothing is known."""


class OwnOptimizerSession(Session):
    def init_optimizer(self):
        return Own(self.network.parameters(), lr=0.01)


class AdafactorSession(Session):
    def init_optimizer(self):
        return torch.optim.Adafactor(self.network.parameters(), lr=0.01)


def notes_of_optimizer(index, parent):
    with pytest.raises(RuntimeError, match="Sharding propagation") as caught:
        trained(parent, Case(AdafactorSession))
    return caught.value.__notes__


def test_an_optimizer_that_can_not_compute_with_shards_is_explained(tmp_path):
    for notes in several.values_of(2, notes_of_optimizer, tmp_path):
        assert any("The optimizer Adafactor can't compute with the shards" in note for note in notes)


class FusedSession(Session):
    def init_optimizer(self):
        return torch.optim.Adam(self.network.parameters(), lr=0.01, fused=True)


class Twice(torch.nn.Module):
    """Calls a layer twice."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3), torch.nn.Linear(3, 1)

    def forward(self, x):
        return self.last(self.second(self.second(self.first(x)))).sum(dim=1)


class TwiceSession(Session):
    architecture = "Twice"

    def init_network(self):
        return Twice()


def warnings_of(index, parent, kind):
    handler = Lines()
    logging.getLogger("torchbase").addHandler(handler)
    trained(parent, Case(kind, settings={"num_epochs": 1}))
    return [line for line in handler.lines if "to rounding" in line]


@pytest.mark.parametrize(
    ("kind", "count", "text"),
    [
        (OwnOptimizerSession, 2, "the optimizer Own isn't known to compute each element by itself"),
        (FusedSession, 2, "the fused Adam rounds the last elements of a shard otherwise on CPUs"),
        (Session, 3, "3 processes aren't a power of two"),
        (TwiceSession, 2, "The unit 'second' of the sharded network is called several times"),
        (Session, 2, None),
    ],
)
def test_what_keeps_a_run_from_the_same_bits_is_said_once_before_training(tmp_path, kind, count, text):
    main, *others = several.values_of(count, warnings_of, tmp_path, kind)
    assert others == [[]] * (count - 1)
    if text is None:
        assert main == []
    else:
        (line,) = main
        assert text in line


def loaded_modules(index, parent):
    import sys

    for name in [name for name in sys.modules if name.startswith(("torch.distributed.fsdp", "torchbase.sharding."))]:
        del sys.modules[name]
    session_with(parent, kind=Session, mini_batch_size=20, mini_batch_parts=8, num_epochs=1)()
    return [name for name in sys.modules if name.startswith("torch.distributed.fsdp._fully_shard")]


def test_a_replicated_run_does_not_import_fsdp(tmp_path):
    assert several.values_of(2, loaded_modules, tmp_path) == [[], []]


def test_one_process_alone_does_not_shard(tmp_path):
    session, _, _ = trained(Path(tmp_path), Case(Session))
    assert "sharded_training" not in session.hooks
    assert not any(is_shard(one) for one in session.network.parameters())
