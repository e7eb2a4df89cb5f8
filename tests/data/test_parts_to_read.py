"""The parts of mini-batches that a process reads, together, are the parts that one process reads."""

import logging

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import make_dataset

from torchbase.data.loader import MiniBatchLoader
from torchbase.data.order import EpochOrder
from torchbase.data.parts import PartsToRead
from torchbase.data.phase_loader import phase_loader
from torchbase.distributed.blocks import share_out
from torchbase.errors import DataError
from torchbase.files.bitwise import different_values
from torchbase.randomness.run_randomness import Randomness


class Settings:
    mini_batch_size = 6
    validation_mini_batch_size = 2
    iterations_per_epoch = None
    drop_last = False
    dataloader_num_workers = 0


def augmented(samples):
    x = torch.stack([sample["x"] for sample in samples])
    return {"x": x + torch.randn_like(x), "y": torch.stack([sample["y"] for sample in samples])}


def parts_read(rows, size, parts, processes, workers=0, collate=None):
    """By process, the mini-batches of an epoch."""
    read = []
    for block in share_out(parts, processes):
        order = EpochOrder(rows, size, True, "training", Randomness(1))
        loader = MiniBatchLoader(
            make_dataset(rows),
            order,
            parts=PartsToRead(parts, block.parts),
            collate=collate,
            num_workers=workers,
        )
        read.append(list(loader.mini_batches(2)))
        loader.end_workers()
    return read


def joined(read):
    """The parts of all processes, by mini-batch."""
    return [[part._asdict() for split in splits for part in split.parts] for splits in zip(*read, strict=True)]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.data())
def test_each_row_is_read_once_in_the_parts_that_one_process_reads(rows, size, data):
    parts = data.draw(st.integers(2, max(2, size)))
    processes = data.draw(st.integers(1, parts))
    whole, shared = parts_read(rows, size, parts, 1), parts_read(rows, size, parts, processes)
    assert different_values(joined(shared), joined(whole)) == []
    x = torch.cat([part["mini_batch"]["x"] for mini_batch in joined(shared) for part in mini_batch])
    assert sorted(x.tolist()) == sorted(torch.as_tensor(make_dataset(rows)["x"]).tolist())
    for splits in zip(*shared, strict=True):
        assert len({split.samples for split in splits}) == 1
        assert splits[0].samples == sum(len(part.mini_batch["x"]) for split in splits for part in split.parts)


@pytest.mark.parametrize("workers", [0, 2])
def test_random_numbers_of_reading_belong_to_the_part(workers):
    whole = parts_read(20, 6, 4, 1, collate=augmented)
    assert different_values(joined(parts_read(20, 6, 4, 3, workers, augmented)), joined(whole)) == []
    assert whole[0][0].samples is None  # a collate function may drop samples


def test_more_parts_than_samples_are_refused_in_training_and_reported_in_validation(caplog):
    def loader(is_training):
        return phase_loader(
            make_dataset(20),
            "validation-valid",
            Randomness(1),
            Settings(),
            is_training=is_training,
            parts=PartsToRead(7, range(7)),
        )

    with pytest.raises(DataError, match="has 6 samples, fewer than its 7 parts"):
        loader(is_training=True)
    with caplog.at_level(logging.WARNING, "torchbase"):
        validation = loader(is_training=False)
    assert "has 2 samples, fewer than its 7 parts" in caplog.text
    assert [split.samples for split in validation] == [2] * 10


def test_the_mini_batches_to_try_are_the_first_and_the_last_part_on_each_process():
    order = EpochOrder(8, 6, False, "training", Randomness(1))
    loader = MiniBatchLoader(make_dataset(8), order, parts=PartsToRead(3, range(2, 3)))
    whole = MiniBatchLoader(make_dataset(8), order).read(1, 0)[1]["x"]
    assert torch.equal(loader.first_mini_batch()["x"], whole[:2])
    position, last = loader.shortest_mini_batch()
    assert (position, len(last["x"])) == (1, 1)
