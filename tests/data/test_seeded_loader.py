import random
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, Sampler, TensorDataset, WeightedRandomSampler

from torchbase import Randomness
from torchbase.data.seeded_loader import SeededLoader, reason_against_exactness
from torchbase.engine.phase import SeekableLoader
from torchbase.files.bitwise import different_values

ROWS = TensorDataset(torch.arange(23.0))


class Draws(torch.utils.data.Dataset):
    """Reads with a draw of each of the three streams."""

    def __len__(self):
        return 11

    def __getitem__(self, row):
        return row, random.random(), float(np.random.rand()), torch.rand(2)


class ShuffledBatches(Sampler):
    """A sampler of mini-batches that draws at its beginning and at each of them."""

    def __init__(self):
        self.sampler = range(11)

    def __iter__(self):
        order = torch.randperm(11).tolist()
        while order:
            size = random.randint(1, 3)
            yield [order.pop() for _ in range(min(size, len(order)))]

    def __len__(self):
        return 11


class Iterable:
    """Any object that can be iterated anew."""

    def __iter__(self):
        for _ in range(6):
            yield torch.rand(3)


KINDS = {
    "shuffled": lambda: DataLoader(ROWS, batch_size=4, shuffle=True),
    "weighted": lambda: DataLoader(ROWS, batch_size=4, sampler=WeightedRandomSampler(torch.linspace(1, 2, 23), 23)),
    "draws while reading": lambda: DataLoader(Draws(), batch_size=3, shuffle=True),
    "draws in workers": lambda: DataLoader(Draws(), batch_size=3, shuffle=True, num_workers=2),
    "samples mini-batches": lambda: DataLoader(Draws(), batch_sampler=ShuffledBatches()),
    "torch's batch sampler": lambda: DataLoader(Draws(), batch_sampler=BatchSampler(RandomSampler(Draws()), 2, True)),
    "any iterable": Iterable,
    "a list": lambda: [torch.tensor(1.0), torch.tensor(2.0), torch.tensor(3.0)],
}


def seeded(kind, seed=1, phase="training"):
    return SeededLoader(KINDS[kind](), phase, Randomness(seed))


@pytest.mark.parametrize("kind", KINDS)
def test_an_epoch_depends_on_the_seed_and_not_on_what_was_drawn_before(kind):
    torch.manual_seed(1)
    first = list(seeded(kind).mini_batches(2))
    torch.manual_seed(2)
    loader = seeded(kind)
    list(loader.mini_batches(1))
    assert different_values(first, list(loader.mini_batches(2))) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("start", [0, 1, 3])
def test_an_epoch_that_begins_in_the_middle_is_the_rest_of_the_whole(kind, start):
    whole = list(seeded(kind).mini_batches(2))
    assert different_values(whole[start:], list(seeded(kind).mini_batches(2, start))) == []


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "a list"])
def test_epochs_phases_and_seeds_differ(kind):
    of = [
        list(seeded(kind).mini_batches(1)),
        list(seeded(kind).mini_batches(2)),
        list(seeded(kind, seed=2).mini_batches(1)),
        list(seeded(kind, phase="validation-v").mini_batches(1)),
    ]
    assert all(different_values(of[0], other) for other in of[1:])


@settings(max_examples=20)
@given(st.integers(1, 30), st.integers(1, 7), st.integers(0, 5), st.integers(0, 10**6))
def test_each_row_comes_once_an_epoch(rows, size, start, seed):
    data = TensorDataset(torch.arange(rows))
    loader = SeededLoader(DataLoader(data, batch_size=size, shuffle=True), "training", Randomness(seed))
    whole = [batch[0].tolist() for batch in loader.mini_batches(3)]
    assert sorted(row for batch in whole for row in batch) == list(range(rows))
    assert [batch[0].tolist() for batch in loader.mini_batches(3, start)] == whole[start:]


def test_the_global_streams_stay_as_they_were():
    def states():
        return random.getstate(), np.random.get_state(), torch.get_rng_state()

    before = states()
    for _ in seeded("draws while reading").mini_batches(1):
        assert str(states()) == str(before)


def test_it_is_a_seekable_loader_as_long_as_the_loader():
    loader = seeded("shuffled")
    assert isinstance(loader, SeekableLoader)
    assert len(loader) == len(list(loader)) == 6
    with pytest.raises(TypeError):
        len(SeededLoader(Iterable(), "training", Randomness(1)))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: DataLoader(ROWS, shuffle=True, generator=torch.Generator()), "DataLoader has a generator"),
        (lambda: DataLoader(ROWS, sampler=RandomSampler(ROWS, generator=torch.Generator())), "RandomSampler has a gen"),
        (
            lambda: DataLoader(
                ROWS, batch_sampler=BatchSampler(RandomSampler(ROWS, generator=torch.Generator()), 2, False)
            ),
            "RandomSampler has a generator",
        ),
        (lambda: DataLoader(ROWS, num_workers=1, persistent_workers=True), "persistent_workers=True"),
    ],
)
def test_what_no_seed_reaches_is_named(make, reason):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert reason in reason_against_exactness(make())


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_said_of_loaders_that_are_exact(kind):
    assert reason_against_exactness(KINDS[kind]()) is None
