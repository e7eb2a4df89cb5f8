"""The global random stream of numpy, captured in a microsecond as long as nobody draws from it.

``np.random.get_state`` and ``np.random.set_state`` take 40 µs each, since they convert 624 numbers one by one. Seeding
takes 3 µs. So the state of a stream that was only seeded is captured as its seed. Whether somebody has drawn is seen in
the memory of the bit generator, whose address is public:
https://numpy.org/doc/stable/reference/random/bit_generators/generated/numpy.random.MT19937.ctypes.html.
"""

import ctypes
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

_WORDS = 624  # of MT19937; its position follows them. Right after seeding, the first is the seed, the position the end.


class NumpyStream:
    """The legacy generator that all functions of ``np.random`` share."""

    def __init__(self) -> None:
        """Prepares the stream, without a draw."""
        self._seed: int | None = None
        self._bit_generator: Any = None
        self._memory: Any = None

    def seed(self, seed: int) -> None:
        """Seeds the stream.

        Args:
            seed: An integer from 0 to 2**32 - 1.
        """
        np.random.seed(seed)
        self._seed = seed

    def capture(self) -> Callable[[], None]:
        """Captures the state of the stream.

        Returns:
            A function that restores it.
        """
        if self._seed is not None and self._is_as_seeded(self._seed):
            return partial(self._restore_seed, self._seed)
        return partial(np.random.set_state, np.random.get_state(legacy=False))

    def _restore_seed(self, seed: int) -> None:
        if not self._is_as_seeded(seed):
            self.seed(seed)

    def _is_as_seeded(self, seed: int) -> bool:
        bit_generator = np.random.get_bit_generator()  # type: ignore[attr-defined]  # numpy's types don't list it
        if bit_generator is not self._bit_generator:
            self._bit_generator = bit_generator
            self._memory = _memory_of(bit_generator)
        memory = self._memory
        return memory is not None and memory[_WORDS] == _WORDS and memory[0] == seed


def _memory_of(bit_generator: object) -> Any:
    """Returns the words and the position of an MT19937, which np.random has at first; None for another generator."""
    if type(bit_generator) is not np.random.MT19937:
        return None
    return (ctypes.c_uint32 * (_WORDS + 1)).from_address(bit_generator.ctypes.state_address)


# Global, since what it describes is: the stream of the process.
NUMPY_STREAM = NumpyStream()
