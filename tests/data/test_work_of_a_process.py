"""What one process does for its part of a mini-batch, however many processes and rows there are."""

import tracemalloc

import pytest

from torchbase.data.order import ROWS_AT_A_TIME, EpochOrder
from torchbase.data.parts import PartsToRead
from torchbase.data.permutation import ComputedPermutation
from torchbase.distributed.blocks import share_out
from torchbase.randomness.run_randomness import Randomness

SAMPLES_OF_A_PROCESS = 32


@pytest.fixture
def computed(monkeypatch):
    """The numbers of rows that were computed, by call."""
    counts = []
    part = ComputedPermutation.part

    def counted(permutation, begin, end):
        counts.append(end - begin)
        return part(permutation, begin, end)

    monkeypatch.setattr(ComputedPermutation, "part", counted)
    return counts


def next_of_process(index, processes, rows, parts_of_each=1, epoch=3):
    parts = processes * parts_of_each
    own = PartsToRead(parts, share_out(parts, processes)[index].parts)
    order = EpochOrder(rows, processes * SAMPLES_OF_A_PROCESS, True, "training", Randomness(1))
    return own, next(order.mini_batches(epoch, start=len(order) // 2, needed=own.samples_of))


@pytest.mark.parametrize("parts_of_each", [1, 4])
@pytest.mark.parametrize("rows", [2**21, 10**9, 10**12])
@pytest.mark.parametrize(("index", "processes"), [(0, 2), (77, 100), (0, 10_000), (9_999, 10_000)])
def test_a_process_computes_rows_for_its_samples_only(computed, index, processes, rows, parts_of_each):
    own, indices = next_of_process(index, processes, rows, parts_of_each)
    samples = own.samples_of(indices.size)
    assert len(samples) == SAMPLES_OF_A_PROCESS
    assert len(set(indices.rows_of(samples))) == SAMPLES_OF_A_PROCESS
    assert sum(computed) <= max(ROWS_AT_A_TIME, SAMPLES_OF_A_PROCESS)


@pytest.mark.parametrize(("rows", "size", "processes"), [(2**20 + 77, 5000, 3), (2**20 + 77, 5000, 7), (9000, 5000, 4)])
def test_the_rows_of_all_processes_are_those_of_one(rows, size, processes):
    order = EpochOrder(rows, size, True, "training", Randomness(1))
    last = len(order) - 2
    of_one = [indices.rows for indices in order.mini_batches(2, last)]
    joined = [[] for _ in of_one]
    for block in share_out(processes + 2, processes):
        own = PartsToRead(processes + 2, block.parts)
        for rows_so_far, indices in zip(joined, order.mini_batches(2, last, own.samples_of), strict=True):
            rows_so_far += indices.rows
            assert indices.rows_of(own.samples_of(indices.size)) == indices.rows
    assert joined == of_one


def test_a_process_among_10_000_needs_memory_for_its_samples_only(computed):
    own = PartsToRead(10_000, range(5_000, 5_001))
    order = EpochOrder(10**9, 10_000 * SAMPLES_OF_A_PROCESS, True, "training", Randomness(1))
    tracemalloc.start()
    indices = next(order.mini_batches(1, needed=own.samples_of))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(indices.rows) == SAMPLES_OF_A_PROCESS
    assert peak < 100_000
    assert computed == [SAMPLES_OF_A_PROCESS]
