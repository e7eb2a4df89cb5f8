"""Datasets of torch in whole sessions."""

import os

import numpy as np
import pytest
import torch
from several import values_of
from tiny import StopAt, TinySession, config_with, make_dataset
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from torchbase import ValidationDatasetsDict
from torchbase.data import RandomCrops, WeightedOrder, Windows
from torchbase.errors import DataError


class Samples(Dataset):
    def __init__(self, rows=18, noise=0.1):
        self.table, self.noise = make_dataset(rows).with_format("torch")[:], noise

    def __len__(self):
        return len(self.table["y"])

    def __getitem__(self, row):
        return {"x": self.table["x"][row] + self.noise * torch.randn(3), "y": self.table["y"][row]}


class Stream(IterableDataset):
    def __init__(self, samples, shards=1, shard=0):
        self.samples, self.shards, self.shard_index = samples, shards, shard

    def __iter__(self):
        for row in range(self.shard_index, len(self.samples), self.shards):
            yield self.samples[row]


class ShardedStream(Stream):
    num_shards = 4

    def shard(self, num_shards, index):
        return ShardedStream(self.samples, num_shards, index)


KINDS = {
    "samples": Samples,
    "subset": lambda: Subset(Samples(), range(2, 16)),
    "list": lambda: [Samples()[row] for row in range(8)],
    "stream": lambda: Stream(Samples()),
    "sharded": lambda: ShardedStream(Samples(32)),
}


class TorchSession(TinySession):
    make = Samples

    def init_datasets(self):
        torch.manual_seed(1)
        validation = {"samples": Samples(10), "stream": Stream(Samples(6))}
        return type(self).make(), ValidationDatasetsDict(
            datasets=tuple(validation.values()), only_for_demo=(False, True), names=tuple(validation)
        )

    def init_network(self):
        network = super().init_network()
        network.layers[1] = torch.nn.Identity()  # batch normalization needs more samples than a part may have
        return network


def session_with(kind, *, order=None, **keys):
    arguments = {name: keys.pop(name) for name in ("create_run_dir_afresh", "source_run_dir_tag") if name in keys}

    class Chosen(TorchSession):
        make = staticmethod(KINDS[kind])

        def init_order(self):
            return order

    return Chosen(config_with(**keys), **arguments)


def weights_of(session):
    return {name: values.tolist() for name, values in session.network.state_dict().items()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_ends_like_one_that_was_never_stopped(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = session_with(kind)
    summary = whole()
    assert summary.averages.keys() == {"training", "validation-samples", "validation-stream"}
    stopped = session_with(kind)
    stopped.register(StopAt(3))
    stopped()
    resumed = session_with(
        kind,
        create_run_dir_afresh=False,
        source_run_dir_tag=os.path.basename(stopped.run_dir),
        dataloader_num_workers=1,
    )
    resumed()
    assert weights_of(resumed) == weights_of(whole)


def train(index, directory, kind):
    os.chdir(directory)
    session = session_with(kind, mini_batch_parts=2)
    session()
    return weights_of(session)


@pytest.mark.parametrize("kind", ["samples", "sharded"])
def test_two_processes_end_like_one(kind, tmp_path):
    found = []
    for count in (1, 2):
        folder = tmp_path / str(count)
        folder.mkdir()
        found += values_of(count, train, folder, kind)
    assert found[0] == found[1] == found[2]


def test_an_order_applies_to_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    session = session_with("samples", order=WeightedOrder([0.0] * 17 + [1.0]))
    session()
    x = next(iter(session.dataloader_train))["x"]
    assert (x - x.mean(dim=0)).abs().max() < 1  # one sample, with noise


def test_a_pair_is_a_mini_batch_of_two_columns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    class Pairs(TorchSession):
        make = staticmethod(lambda: [(torch.ones(3) * row, float(row)) for row in range(8)])

        def init_datasets(self):
            training, _ = super().init_datasets()
            return training, ValidationDatasetsDict(datasets=(training,), only_for_demo=(False,), names=("pairs",))

        def forward_pass(self, mini_batch):
            x, y = mini_batch
            return {"output": self.network(x), "target": y}

    for keys in ({}, {"mini_batch_parts": 2}):
        session = Pairs(config_with(**keys))
        session()
        assert session.evaluate(session.dataset_train, "pairs")["loss"] >= 0
        assert len(session.predict_dataset(session.dataset_train)) == 8


@pytest.mark.parametrize("kind", [Windows, RandomCrops])
def test_windows_are_a_training_set(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.linspace(0, 1, 200).tofile("series.bin")

    class Series(TorchSession):
        make = staticmethod(lambda: kind(np.memmap("series.bin", dtype=np.float64, mode="r"), 4))

        def init_datasets(self):
            training, _ = super().init_datasets()
            return training, ValidationDatasetsDict(datasets=(), only_for_demo=(), names=())

        def forward_pass(self, mini_batch):
            window = mini_batch["window"]
            return {"output": self.network(window[:, :3]), "target": window[:, 3]}

    found = []
    for workers in (0, 2):
        session = Series(config_with(dataloader_num_workers=workers))
        session()
        found.append(weights_of(session))
    assert found[0] == found[1]


class OwnGenerator(Samples):
    def __init__(self):
        super().__init__()
        self.generator = np.random.default_rng(1)

    def __getitem__(self, row):
        return {"x": torch.rand(3), "y": torch.tensor(self.generator.random()).float()}


class OwnGeneratorStream(Stream):
    def __init__(self):
        super().__init__(OwnGenerator())


@pytest.mark.parametrize("make", [OwnGenerator, OwnGeneratorStream])
def test_samples_that_do_not_repeat_are_warned_of_before_training(make, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(KINDS, "own", make)
    session_with("own")()
    (record,) = [one for one in caplog.records if "differs when it is read twice" in one.message]
    assert type(session_with("own").dataset_train).__name__ in record.message


class Position(Stream):
    """Has a state, which is one example behind if it is advanced after ``yield``."""

    is_advanced_before = True

    def __init__(self, samples=None):
        super().__init__(samples or Samples())
        self.position = 0

    def __iter__(self):
        while self.position < len(self.samples):
            self.position += self.is_advanced_before
            yield self.samples[self.position - self.is_advanced_before]
            self.position += not self.is_advanced_before
        self.position = 0

    def state_dict(self):
        return {"position": self.position}

    def load_state_dict(self, state):
        self.position = state["position"]


@pytest.mark.parametrize("is_right", [True, False])
def test_a_stream_that_resumes_somewhere_else_is_warned_of_before_training(is_right, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Position, "is_advanced_before", is_right)
    monkeypatch.setitem(KINDS, "position", Position)
    session_with("position")()
    assert ("a Position, doesn't continue with the next example after load_state_dict" in caplog.text) != is_right


@pytest.mark.parametrize("kind", KINDS)
def test_samples_that_repeat_are_not_warned_of(kind, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    session_with(kind).dataloader_train  # noqa: B018
    assert "differs when it is read twice" not in caplog.text


class Unsized(Dataset):
    def __getitem__(self, row):
        return row


WRONG = [
    (7, "is an? int. To fix, make one"),
    (None, "is None"),
    ("text", "is a str. To fix, make one"),
    ({"x": [1]}, "is a dict. To fix, make a dataset of its columns"),
    (Unsized(), "is an Unsized. To fix, give it a method __len__"),
    (DataLoader([1]), "is a DataLoader. To fix, return its dataset here"),
    ([], "has 0 rows"),
    (torch.tensor(1), "without a dimension of samples"),
]


@pytest.mark.parametrize(("dataset", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_cannot_be_read_is_refused(dataset, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(KINDS, "wrong", lambda: dataset)
    of_training = "is empty" if message == "has 0 rows" else rf"has to be a datasets\.Dataset.*{message}"
    with pytest.raises(DataError, match=f"The training set {of_training}"):
        session_with("wrong")()
    with pytest.raises(DataError, match=rf"datasets\[0\] \('one'\) .*{message}"):
        ValidationDatasetsDict(datasets=(dataset,), only_for_demo=(False,), names=("one",))
    if message != "has 0 rows":
        with session_with("samples") as session, pytest.raises(DataError, match=f"The dataset of evaluate.*{message}"):
            session.evaluate(dataset)


@pytest.mark.parametrize("kind", ["samples", "stream"])
def test_an_epoch_can_have_a_number_of_iterations(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    summary = session_with(kind, num_epochs=2, iterations_per_epoch=3)()
    assert (summary.epochs_done, summary.iterations) == (2, 6)


def test_the_limits_of_a_stream_are_logged(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    caplog.set_level("INFO", "torchbase")
    session_with("stream")()
    assert "is one shard, so one worker reads it" in caplog.text
    assert "has no state_dict and load_state_dict, so a resumed run reads it again" in caplog.text
