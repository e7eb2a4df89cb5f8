import time

import torch

from torchbase.engine import iteration_values
from torchbase.engine.iteration_values import MAXIMUM_ITERATIONS_IN_A_BLOCK, ValueBlock


def test_values_of_all_types_are_read_with_their_iteration():
    block = ValueBlock()
    block.append(11, 1, 32, {"loss": torch.tensor(0.5), "count": torch.tensor(3), "rate": 0.25})
    block.append(12, 2, 5, {"loss": torch.tensor(0.1, dtype=torch.float64)})
    block.append(13, 3, 5, {"half": torch.tensor(1.5, dtype=torch.bfloat16), "loss": torch.tensor(2.0)})
    rows = block.read()
    assert [row.iteration for row in rows] == [11, 12, 13]
    assert [row.mini_batch for row in rows] == [1, 2, 3]
    assert [row.samples for row in rows] == [32, 5, 5]
    assert [row.values for row in rows] == [
        {"loss": 0.5, "count": 3.0, "rate": 0.25},
        {"loss": 0.1},
        {"half": 1.5, "loss": 2.0},
    ]


def test_a_block_is_empty_after_reading():
    block = ValueBlock()
    block.append(1, 1, 1, {"loss": torch.tensor(0.5)})
    assert len(block.read()) == 1
    assert block.read() == []


def test_a_block_is_due_when_it_is_full():
    block = ValueBlock()
    for iteration in range(1, MAXIMUM_ITERATIONS_IN_A_BLOCK + 1):
        assert not block.is_due()
        block.append(iteration, iteration, 1, {"loss": 0.0})
    assert block.is_due()


def test_a_block_is_due_when_its_first_value_is_old(monkeypatch):
    monkeypatch.setattr(iteration_values, "MAXIMUM_SECONDS_IN_A_BLOCK", 0.01)
    block = ValueBlock()
    assert not block.is_due()
    block.append(1, 1, 1, {"loss": 0.0})
    time.sleep(0.02)
    assert block.is_due()


def test_an_empty_block_is_never_due():
    assert not ValueBlock().is_due()
