from fractions import Fraction

import numpy as np
import pytest
import torch

from torchbase import Phase, Run
from torchbase.engine.iteration_values import MAXIMUM_ITERATIONS_IN_A_BLOCK, ValueBlock, check_is_number
from torchbase.errors import StepError


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
        assert not block.is_due(now=7.0)
        block.append(iteration, iteration, 1, {"loss": 0.0})
    assert block.is_due(now=7.0)


def test_a_block_is_due_when_its_first_value_is_old():
    block = ValueBlock()
    for _ in range(2):
        assert not block.is_due(now=1.0)
        block.append(1, 1, 1, {"loss": 0.0})
        assert not block.is_due(now=5.0)
        assert not block.is_due(now=5.9)
        assert block.is_due(now=6.0)
        block.read()


def test_an_empty_block_is_never_due():
    assert not ValueBlock().is_due(now=100.0)


NO_NUMBERS = [
    (None, "is None"),
    ("0.5", "is str: '0.5'"),
    ([0.5], r"is list: \[0\.5\]"),
    (1 + 2j, r"is complex: \(1\+2j\)"),
    (np.complex64(1), "is complex64: "),
    (np.zeros((2, 3)), r"is ndarray of shape \(2, 3\), float64"),
    (torch.zeros(2), r"is Tensor of shape \(2,\), torch.float32"),
    (torch.zeros((), dtype=torch.complex64), r"is Tensor of shape \(\), torch.complex64"),
]
NUMBERS = [1, True, 0.5, Fraction(1, 2), np.float32(1), np.int64(1), np.bool_(True), np.array(1.0), torch.tensor(1)]


@pytest.mark.parametrize(("value", "found"), NO_NUMBERS)
def test_what_is_no_number_is_named_when_it_is_logged_and_when_it_is_read(value, found):
    run = Run(training=Phase("training", [], is_training=True), max_epochs=1)
    run.current_phase = run.training
    if not (isinstance(value, torch.Tensor) and value.numel() == 1):  # a tensor is converted only when it is read
        with pytest.raises(StepError, match=r"\(2,\)" if isinstance(value, torch.Tensor) else f"'mine' .*{found}"):
            run.log("mine", value)
    assert run.training.values == {}
    with pytest.raises(StepError, match=f"The value 'mine'.*{found}"):
        check_is_number("mine", value)
    if not isinstance(value, str | np.complex64):  # of these, float makes a number
        block = ValueBlock()
        block.append(7, 1, 1, {"loss": 0.5, "mine": value, "other": torch.tensor(1.0)})
        with pytest.raises(StepError, match=f"'mine' in iteration 7 has to be a number .*{found}"):
            block.read()


@pytest.mark.parametrize("value", NUMBERS, ids=repr)
def test_numbers_of_every_type_are_read(value):
    run = Run(training=Phase("training", [], is_training=True), max_epochs=1)
    run.current_phase = run.training
    run.log("mine", value)
    run.training.store_values()
    assert run.training.block.read()[0].values == {"mine": float(value)}
