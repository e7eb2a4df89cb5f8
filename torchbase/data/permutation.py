"""A random permutation of a large number of rows. Any part of it can be computed without the rest."""

import numpy as np
from numpy.typing import NDArray

from torchbase.randomness.seeds import derive_seed

ROUNDS = 6
_MULTIPLIER = np.uint64(0xBF58476D1CE4E5B9)  # from the finalizer of SplitMix64, which spreads each bit over the word
_SHIFT = np.uint64(31)


class ComputedPermutation:
    """A permutation of the integers below a size. It is computed on demand and not stored.

    A Feistel network with keyed rounds permutes the integers below the next power of four. A result that is not below
    the size is permuted again until it is ("cycle walking"). This takes fewer than four steps on average.

    Source: Black and Rogaway, Ciphers with Arbitrary Finite Domains, CT-RSA 2002.
    """

    def __init__(self, size: int, seed: int) -> None:
        """Prepares the permutation.

        Args:
            size: The number of integers.
            seed: The seed of the permutation.
        """
        self._size = size
        self._half_bits = np.uint64(max(1, -(-(size - 1).bit_length() // 2)))
        self._half_mask = np.uint64((1 << int(self._half_bits)) - 1)
        self._keys = [np.uint64(derive_seed(seed, "round", number)) for number in range(ROUNDS)]

    def part(self, begin: int, end: int) -> list[int]:
        """Computes a part of the permutation.

        Args:
            begin: The first position.
            end: The position after the last one.

        Returns:
            The integers at these positions.
        """
        numbers = self._permute(np.arange(begin, end, dtype=np.uint64))
        outside = np.flatnonzero(numbers >= self._size)
        while len(outside):
            numbers[outside] = self._permute(numbers[outside])
            outside = outside[numbers[outside] >= self._size]
        result: list[int] = numbers.tolist()
        return result

    def _permute(self, numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
        left, right = numbers >> self._half_bits, numbers & self._half_mask
        for key in self._keys:
            mixed = (right ^ key) * _MULTIPLIER
            mixed = (mixed ^ (mixed >> _SHIFT)) * _MULTIPLIER
            left, right = right, left ^ ((mixed >> _SHIFT) & self._half_mask)
        return (left << self._half_bits) | right
