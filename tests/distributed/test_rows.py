"""Processes exchange rows over connections, and in memory that they share."""

from datetime import timedelta

import pytest
import several
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchbase.distributed import board
from torchbase.distributed.board import open_board
from torchbase.distributed.joining import join
from torchbase.distributed.rows import ConnectedRows, SharedRows
from torchbase.files.bitwise import different_values

TYPES = [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool, torch.complex64]


def rows_of(index, length, dtype, count):
    generator = torch.Generator().manual_seed(1000 * index + length)
    return torch.randint(0, 100, (count, length), generator=generator).to(dtype)


def compare(board, purpose):
    assert len(set(board.exchange(purpose.encode()))) == 1


def exchanged(index, calls, area):
    processes = join()
    if area is None:
        way = ConnectedRows(None)
    else:
        way = SharedRows(open_board(index, processes.count, timedelta(seconds=60), processes.gather, area), compare)
    received = []
    for length, dtype in calls:
        rows = rows_of(index, length, dtype, processes.count)
        before = rows.clone()
        received.append((way.exchange(rows), way.gather(rows[0])))
        assert torch.equal(rows, before)
    return received  # in memory of its own, which later calls leave as it is


def check(processes, calls, area):
    for index, received in enumerate(several.values_of(processes, exchanged, calls, area)):
        for (length, dtype), (rows, gathered) in zip(calls, received, strict=True):
            sent = [rows_of(one, length, dtype, processes) for one in range(processes)]
            assert different_values(rows, torch.stack([one[index] for one in sent])) == []
            assert different_values(gathered, torch.stack([one[0] for one in sent])) == []


@pytest.mark.skipif(not board.SHARES_MEMORY, reason="memory can't be shared")
@settings(max_examples=8, deadline=None)
@given(
    processes=st.integers(2, 4),
    calls=st.lists(st.tuples(st.integers(1, 40), st.sampled_from(TYPES)), min_size=1, max_size=12),
    area=st.sampled_from([5, 24, 64, 4096]),
)
def test_each_process_has_the_rows_of_all_whatever_fits_into_an_area(processes, calls, area):
    check(processes, calls, area)


@pytest.mark.parametrize("processes", [2, 3])
def test_each_process_has_the_rows_that_were_sent(processes):
    check(processes, [(7, dtype) for dtype in TYPES if dtype is not torch.bool], None)


def sums(index):
    processes = join()
    gradients = [torch.full((1000, 300), index + 1.0), torch.arange(5.0) * index]
    total = processes.reduce([one.clone() for one in gradients], gradients)
    return total, processes.gather_tensor(torch.arange(3.0) + index)


def test_both_ways_give_the_same_bits(monkeypatch):
    shared = several.values_of(3, sums)
    monkeypatch.setattr(board, "SHARES_MEMORY", False)
    assert different_values(several.values_of(3, sums), shared) == []
