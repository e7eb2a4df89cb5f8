import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, chisquare

from torchbase.data.permutation import ComputedPermutation

ONE_IN_A_MILLION = 1e-6  # the seeds are fixed, so the tests are deterministic


@pytest.mark.parametrize("sizes", [range(1, 151), range(151, 301)])
def test_each_number_below_a_small_size_occurs_once(sizes):
    for size in sizes:
        assert sorted(ComputedPermutation(size, seed=size).part(0, size)) == list(range(size))


@pytest.mark.parametrize("size", [2**10 - 1, 2**10, 2**10 + 1, 4097, 65536, 100_003, 2**20 + 1])
def test_each_number_below_a_large_size_occurs_once(size):
    numbers = np.array(ComputedPermutation(size, seed=5).part(0, size))
    assert (np.sort(numbers) == np.arange(size)).all()


@settings(max_examples=60)
@given(st.integers(1, 5000), st.integers(0, 2**63), st.data())
def test_a_part_does_not_depend_on_other_parts(size, seed, data):
    bounds = [0, *sorted(data.draw(st.lists(st.integers(0, size), max_size=4))), size]
    permutation = ComputedPermutation(size, seed)
    parts = [ComputedPermutation(size, seed).part(begin, end) for begin, end in pairwise(bounds)]
    assert [number for part in parts for number in part] == permutation.part(0, size)


def test_numbers_are_plain_integers():
    assert {type(number) for number in ComputedPermutation(100, seed=1).part(0, 100)} == {int}


def test_different_seeds_yield_different_permutations():
    parts = {tuple(ComputedPermutation(1000, seed).part(0, 1000)) for seed in range(200)}
    assert len(parts) == 200


@pytest.mark.parametrize("size", [3, 7, 16, 40])
def test_over_many_seeds_each_number_occurs_at_each_position_equally_often(size):
    seeds = 100 * size
    counts = np.zeros((size, size))
    for seed in range(seeds):
        counts[np.arange(size), ComputedPermutation(size, seed).part(0, size)] += 1
    assert chisquare(counts, axis=1).pvalue.min() * size > ONE_IN_A_MILLION
    # The factor and the degrees of freedom account for the dependence of the numbers of a permutation.
    statistic = chisquare(counts.ravel()).statistic * (size - 1) / size
    assert chi2.sf(statistic, (size - 1) ** 2) > ONE_IN_A_MILLION
    assert chi2.cdf(statistic, (size - 1) ** 2) > ONE_IN_A_MILLION


@pytest.mark.parametrize("size", [100_003, 2**21 + 5, 10**9])
def test_a_part_of_a_large_permutation_is_uniformly_distributed(size):
    part = np.array(ComputedPermutation(size, seed=11).part(size // 3, size // 3 + 30_000))
    counts, _ = np.histogram(part, bins=30, range=(0, size))
    assert chisquare(counts).pvalue > ONE_IN_A_MILLION


@pytest.mark.parametrize("size", [100_003, 2**21 + 5, 10**9])
def test_the_differences_of_neighbours_are_uniformly_distributed(size):
    part = np.array(ComputedPermutation(size, seed=12).part(0, 30_001))
    counts, _ = np.histogram((part[1:] - part[:-1]) % size, bins=30, range=(0, size))
    assert chisquare(counts).pvalue > ONE_IN_A_MILLION


@pytest.mark.parametrize("size", [2**20 + 1, 10**8, 2**40])
def test_a_part_needs_memory_only_for_its_own_numbers(size):
    tracemalloc.start()
    part = ComputedPermutation(size, seed=13).part(size // 2, size // 2 + 4096)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(set(part)) == 4096
    assert 0 <= min(part) <= max(part) < size
    assert peak < 2_000_000
