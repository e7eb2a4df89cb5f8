"""The order of the user, and drop_last, in whole sessions."""

import os

import pytest
import torch
from several import run, values_of
from tiny import StopAt, TinySession, config_with, make_dataset

from torchbase import hookimpl
from torchbase.data import ClassesOrder, LengthOrder, WeightedOrder
from torchbase.errors import ConfigError, DataError
from torchbase.hooks import GradientAccumulation

ROWS = 18


class Rows:
    """Records the rows of each mini-batch of training."""

    def __init__(self):
        self.rows = []

    @hookimpl
    def on_iteration_start(self, phase, batch):
        if phase.is_training:
            batches = [batch] if isinstance(batch, dict) else [part.mini_batch for part in batch.parts]
            self.rows.append([int(name) for one in batches for name in one["name"]])


class OrderedSession(TinySession):
    order = None

    def init_order(self):
        return self.order


def growing(session):
    return lambda epoch, generator: torch.randint(0, ROWS, (6 + 4 * epoch,), generator=generator)


ORDERS = {
    "own": growing,
    "weighted": lambda session: WeightedOrder(torch.arange(ROWS)),
    "classes": lambda session: ClassesOrder(torch.arange(ROWS) % 3, classes=2, samples=2),
    "lengths": lambda session: LengthOrder(torch.arange(ROWS) % 7, session.config_session.mini_batch_size),
}


def session_with(make, config=None, *, has_parts=False, **arguments):
    class WithOrder(TinySession):
        def init_network(self):
            network = super().init_network()
            if has_parts:
                network.layers[1] = torch.nn.Identity()  # batch normalization needs more samples than a part may have
            return network

        def init_order(self):
            return make(self)

    session = WithOrder(config or config_with(num_epochs=3), **arguments)
    session.register(recorded := Rows())
    return session, recorded


@pytest.mark.parametrize("make", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("stop_at", [2, 5, 8])
def test_a_resumed_run_reads_the_rest_of_the_order(make, stop_at, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    whole, expected = session_with(make)
    whole()
    stopped, first = session_with(make)
    stopped.register(StopAt(stop_at))
    stopped()
    resumed, rest = session_with(
        make, create_run_dir_afresh=False, source_run_dir_tag=os.path.basename(stopped.run_dir)
    )
    resumed()
    assert len(first.rows) == stop_at
    assert first.rows + rest.rows == expected.rows
    for name, weights in whole.network.state_dict().items():
        assert torch.equal(weights, resumed.network.state_dict()[name])
    assert "isn't that of the run before" not in caplog.text


@pytest.mark.parametrize("make", ORDERS.values(), ids=ORDERS)
def test_parts_and_workers_do_not_change_the_order(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = []
    for keys in ({}, {"mini_batch_parts": 2}, {"dataloader_num_workers": 2}):
        session, recorded = session_with(make, config_with(num_epochs=2, **keys), has_parts=True)
        session()
        found.append(recorded.rows)
    assert found[0] == found[1] == found[2]


def train(index, directory):
    os.chdir(directory)
    session, recorded = session_with(growing, config_with(num_epochs=2, mini_batch_parts=2), has_parts=True)
    session()
    return recorded.rows, {name: value.tolist() for name, value in session.network.state_dict().items()}


def test_processes_share_out_the_mini_batches_of_an_order(tmp_path):
    one, two = [tmp_path / name for name in ("one", "two")]
    one.mkdir(), two.mkdir()
    ((rows, weights),) = values_of(1, train, one)
    (first, weights_of_first), (second, _) = values_of(2, train, two)
    assert [[*left, *right] for left, right in zip(first, second, strict=True)] == rows
    assert weights_of_first == weights


def train_in_an_order_of_its_own(index, directory):
    os.chdir(directory)
    session, _ = session_with(lambda session: lambda epoch, generator: list(range(session.processes.index, 18)))
    session()


def test_an_order_that_differs_between_processes_is_refused(tmp_path):
    ended = run(2, train_in_an_order_of_its_own, tmp_path)
    assert all("in the order of training, checksum" in str(one.error) for one in ended)


def test_the_order_of_the_default_is_unchanged_by_a_method_that_returns_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain, overridden = TinySession(config_with()), OrderedSession(config_with())
    plain.register(first := Rows()), overridden.register(second := Rows())
    plain(), overridden()
    assert first.rows == second.rows


def test_gradients_are_accumulated_to_the_end_of_epochs_of_several_lengths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    steps = []

    session, _ = session_with(lambda session: lambda epoch, generator: [[0, 1], [2, 3], [4, 5]][: epoch + 1])
    session.register(GradientAccumulation(2))

    class Steps:
        @hookimpl(wrapper=True)
        def run_optimizer_step(self, run):
            steps.append((run.epoch, run.progress.mini_batches + 1))
            return (yield)

    session.register(Steps())
    session()
    assert steps == [(1, 2), (2, 2), (2, 3), (3, 2), (3, 3)]


def test_the_number_of_mini_batches_is_known_at_the_start_of_each_epoch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    counts = []

    class Counts:
        @hookimpl
        def on_phase_start(self, run, phase):
            if phase.is_training:
                counts.append([phase.count_mini_batches(run.epoch)])

        @hookimpl
        def on_phase_end(self, phase):
            if phase.is_training:
                counts[-1] += [phase.progress.mini_batches, len(phase.loader)]

    session, _ = session_with(growing)
    session.register(Counts())
    session()
    assert counts == [[3] * 3, [4] * 3, [5] * 3]


def test_the_shortest_mini_batch_of_an_order_is_tried_before_training(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    session, recorded = session_with(lambda session: lambda epoch, generator: [[0, 1], [2], [3, 4]])
    with pytest.raises(ValueError, match="more than 1 value") as caught:
        session()
    assert "with the shortest mini-batch of training" in "".join(caught.value.__notes__)
    assert recorded.rows == []


class ShortSession(TinySession):
    def init_datasets(self):
        _, validation = super().init_datasets()
        return make_dataset(17), validation


def test_drop_last_leaves_out_the_last_mini_batch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="more than 1 value"):
        ShortSession(config_with())()
    session = ShortSession(config_with(drop_last=True))
    session.register(recorded := Rows())
    session()
    assert [len(rows) for rows in recorded.rows] == [4] * 8
    assert len(session.dataloader_train) == 4
    assert sum(len(batch["y"]) for batch in session.dataloader_valid_dict["valid"]) == 10


def test_drop_last_without_a_whole_mini_batch_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="has 17 samples, fewer than a mini-batch of 20, and session"):
        ShortSession(config_with(drop_last=True, mini_batch_size=20))()


class StreamSession(OrderedSession):
    def init_datasets(self):
        training, validation = super().init_datasets()
        return training.to_iterable_dataset(), validation


def test_a_stream_has_neither_an_order_nor_drop_last(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"session\.drop_last is True, but the training set is a stream"):
        StreamSession(config_with(drop_last=True))()
    session = StreamSession(config_with())
    session.order = WeightedOrder([1.0] * ROWS)
    with pytest.raises(DataError, match="the training set is a stream, whose examples have no positions"):
        session()


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ([0, 1, 2], "has to return a function, but returned a list"),
        (WeightedOrder, "returned the class WeightedOrder"),
        (torch.utils.data.RandomSampler([1]), "returned a RandomSampler"),
        (lambda epoch: [0], "can't be called with an epoch and a generator"),
        (WeightedOrder([1.0] * 5), "WeightedOrder, is made for 5 rows, but the dataset has 18"),
    ],
)
def test_what_is_no_order_is_refused_before_training(order, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    session = OrderedSession(config_with())
    session.order = order
    with pytest.raises(DataError, match=message):
        session()


def test_an_order_that_is_not_used_is_warned_of(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)

    class OwnLoaders(OrderedSession):
        def init_dataloaders(self):
            loaders = {name: list(self._loader(one, name, is_training=False)) for name, one in self.valid.items()}
            return list(self._loader(self.dataset_train, "training", is_training=False)), loaders

        @property
        def valid(self):
            return self.datasets_valid_dict

    OwnLoaders(config_with())()
    assert "init_order isn't used, since init_dataloaders is overridden" in caplog.text
