"""Sessions whose ``init_dataloaders`` returns loaders of torch."""

import logging

import numpy as np
import pytest
import torch
from divided import in_suite
from tiny import StopAt, TinySession, config_with
from torch.utils.data import DataLoader, WeightedRandomSampler

from torchbase.files.bitwise import different_values


def noisy(samples):
    """A collate function that draws from two streams."""
    x = torch.tensor([sample["x"] for sample in samples])
    return {
        "x": x + 0.1 * torch.randn_like(x) + 0.1 * float(np.random.standard_normal()),
        "y": torch.tensor([sample["y"] for sample in samples]),
        "name": [sample["name"] for sample in samples],
    }


class StockSession(TinySession):
    workers = 0

    def init_dataloaders(self):
        validation = {name: DataLoader(data, 4, collate_fn=noisy) for name, data in self.datasets_valid_dict.items()}
        return self.training_loader(self.dataset_train), validation


class Shuffled(StockSession):
    def training_loader(self, data):
        return DataLoader(data, 4, shuffle=True, collate_fn=noisy, num_workers=self.workers)


class ShuffledByWorkers(Shuffled):
    workers = 2


class Weighted(StockSession):
    def training_loader(self, data):
        sampler = WeightedRandomSampler(torch.linspace(1, 2, len(data)), len(data))
        return DataLoader(data, 4, sampler=sampler, collate_fn=noisy)


class OwnGenerator(StockSession):
    def training_loader(self, data):
        return DataLoader(data, 4, shuffle=True, collate_fn=noisy, generator=torch.Generator())


def train(kind, tmp_path, *hooks, draws=0):
    session = kind(config_with(num_epochs=3), tmp_path)
    for hook in hooks:
        session.register(hook)
    torch.rand(draws)
    session()
    return session


def state_of(session):
    return {"network": session.network.state_dict(), "optimizer": session.optimizer.state_dict()}


@pytest.mark.parametrize("kind", [Shuffled, ShuffledByWorkers, Weighted])
def test_two_runs_of_one_seed_are_the_same(kind, tmp_path):
    first, second = train(kind, tmp_path), train(kind, tmp_path, draws=7)
    assert different_values(state_of(first), state_of(second)) == []


STOPS = [(kind, iterations) for kind in (Shuffled, ShuffledByWorkers, Weighted) for iterations in (1, 4, 5)]


@pytest.mark.parametrize(
    ("kind", "iterations"), in_suite(STOPS, *((Shuffled, n) for n in (1, 4, 5)), (ShuffledByWorkers, 4), (Weighted, 4))
)
def test_a_resumed_run_reads_what_is_left_of_the_epoch(kind, iterations, tmp_path):
    whole = train(kind, tmp_path)
    stopped = train(kind, tmp_path, StopAt(iterations))
    again = kind.resume(tmp_path, stopped.run_dir.rpartition("/")[2])
    again()
    assert different_values(state_of(whole), state_of(again)) == []


def test_a_loader_with_a_generator_of_its_own_is_named_before_training(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "torchbase"):
        train(OwnGenerator, tmp_path)
    said = [record.getMessage() for record in caplog.records if "generator" in record.getMessage()]
    assert len(said) == 1
    assert "in training: its DataLoader has a generator of its own" in said[0]


def test_nothing_is_said_of_a_loader_that_is_exact(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "torchbase"):
        train(Shuffled, tmp_path)
    assert caplog.records == []


def test_the_loader_of_the_user_stays_what_it_is(tmp_path):
    assert isinstance(Shuffled(config_with(), tmp_path).dataloader_train, DataLoader)
