"""A training whose network is sharded over processes equals that of one process, in every bit."""

from itertools import product
from pathlib import Path

import pytest
import several
import torch
from divided import in_suite
from every_technique import session_with
from sharded import Blocks, BlocksSession, train, trained
from whole_runs.test_several_processes import (
    CASES,
    Case,
    Few,
    Picture,
    Queue,
    Session,
    Uneven,
    case,
    dataset,
    per_epoch,
)

from torchbase import hookimpl
from torchbase import hooks as techniques
from torchbase.distributed.shards import is_shard, local_of
from torchbase.files.bitwise import different_values

several.import_sharding()


class ShardedSession(Session):
    """Its optimizer has the same bits on a shard as on the whole, also on CPUs."""

    def init_optimizer(self):
        return torch.optim.Adam(self.network.parameters(), lr=self.config_session.learning_rate)


class ShardedUneven(ShardedSession):
    rows = 43
    architecture = Uneven.architecture
    init_network = Uneven.init_network


def check_equals_one_process(tmp_path, case, counts=(2,), distributed="shard"):
    expected = train(0, tmp_path / "1", case)
    for count in counts:
        results = several.values_of(count, train, tmp_path / str(count), case, distributed)
        for index, state in enumerate(results):
            of_process = {name: value for name, value in expected.items() if name in state}
            assert different_values(state, of_process) == [], f"process {index} of {count}"


MANY = [
    lambda: techniques.GradientAccumulation(2),
    lambda: techniques.GradientClipping(norm=0.5),
    lambda: techniques.ExponentialMovingAverage(0.8, use_buffers=True),
    lambda: techniques.LearningRateSchedule(per_epoch, "1it"),
]


WAYS = [
    *((ShardedSession, count, "shard") for count in (2, 4, 8)),
    *((ShardedUneven, count, "shard") for count in (2, 4)),
    *((kind, 2, "replicate") for kind in (ShardedSession, ShardedUneven)),
]


@pytest.mark.parametrize(
    ("kind", "count", "distributed"),
    in_suite(WAYS, (ShardedUneven, 2, "shard"), (ShardedUneven, 4, "shard"), (ShardedUneven, 2, "replicate")),
)
def test_any_number_of_processes_and_either_way_to_hold_the_network_give_the_same_bits(
    tmp_path, kind, count, distributed
):
    shared = Case(kind, lambda: [make() for make in MANY])
    check_equals_one_process(tmp_path, shared, (count,), distributed)


CHOSEN = [
    *("fewer samples than parts", "sizes of its own", "augmented", "validated within", "stream", "loader of its own"),
    *("metrics", "clipping by value", "accumulation of few rows", "accumulation validated within", "plateau"),
    *("early stopping", "samples", "profile", "NaN is skipped", "NaN stops"),
    *("weights of its own", "weights of its own of whole mini-batches"),
]


@pytest.mark.parametrize(
    "name",
    in_suite(
        CHOSEN,
        *("stream", "metrics", "accumulation of few rows", "samples", "early stopping", "NaN is skipped"),
        "weights of its own",
    ),
)
def test_each_technique_and_kind_of_data_gives_the_bits_of_one_process(tmp_path, name):
    check_equals_one_process(tmp_path, CASES[name])


MANY_MORE = [
    *MANY,
    lambda: techniques.ActivationCheckpointing("layers.0"),
    lambda: techniques.Compile(backend="eager"),
    lambda: techniques.Freeze("layers.0.*"),
    lambda: techniques.Unfreeze("layers.0.weight", at="1ep"),
    lambda: techniques.LogGradients("2it"),
    lambda: techniques.LogWeights("3it"),
    lambda: techniques.Fingerprint("2it"),
    lambda: techniques.LogSamples(6, ["picture"]),
    lambda: techniques.EarlyStopping("loss", "training", patience=2, min_delta=0.2),
    lambda: techniques.TimeLimit("1000s"),
    techniques.HookTimes,
]


def test_many_techniques_together_give_the_bits_of_one_process(tmp_path):
    check_equals_one_process(
        tmp_path, Case(Picture, lambda: [make() for make in MANY_MORE], settings={"num_epochs": 3})
    )


@pytest.mark.parametrize(
    ("kind", "precision"),
    in_suite(list(product([Session, BlocksSession], ["bf16", "fp16"])), (Session, "fp16")),
)
def test_mixed_precision_has_the_same_bits_on_each_number_of_processes_and_is_near_to_one(tmp_path, kind, precision):
    shared = case(
        lambda: techniques.MixedPrecision(precision),
        lambda: techniques.GradientClipping(norm=0.5),
        kind=kind,
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


@pytest.mark.parametrize(
    ("kind", "count"), in_suite(list(product([BlocksSession, OutsideSession], (2, 4))), (OutsideSession, 2))
)
def test_every_kind_of_parameter_gives_the_bits_of_one_process(tmp_path, kind, count):
    check_equals_one_process(tmp_path, case(lambda: techniques.GradientClipping(norm=0.5), kind=kind), (count,))


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
    of_one = count_bytes(0, tmp_path / "1", "replicate")
    sharded = several.values_of(4, count_bytes, tmp_path / "shard", "shard")
    assert max(sharded) <= 0.3 * of_one


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


@pytest.mark.parametrize(
    ("trained_first", "count"), in_suite([(True, 2), (False, 4), (True, 4)], (True, 2), (False, 4))
)
def test_evaluations_and_predictions_are_those_of_one_process(tmp_path, trained_first, count):
    expected = predict(0, tmp_path / "1", trained_first)
    for result in several.values_of(count, predict, tmp_path / str(count), trained_first):
        assert different_values(result, expected) == []


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


FINGERPRINTED = [*product([2, 4], ["shard"], [ShardedSession, BlocksSession]), (2, "replicate", ShardedSession)]


@pytest.mark.thorough  # the test of many techniques compares those of one network
@pytest.mark.parametrize(("count", "distributed", "kind"), FINGERPRINTED)
def test_fingerprints_are_those_of_one_process(tmp_path, count, distributed, kind):
    shared = Case(kind, lambda: [techniques.Fingerprint("1it")])
    session, *_ = trained(tmp_path / "1", shared)
    expected = Path(session.run_dir, "fingerprints.jsonl").read_text()
    assert len(expected.splitlines()) == 6
    several.values_of(count, train, tmp_path / "several", shared, distributed)
    assert [file.read_text() for file in tmp_path.glob("several/*/fingerprints.jsonl")] == [expected]
