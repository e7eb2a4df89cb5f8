"""Seeds that are derived from one seed, by the name of their purpose."""

import hashlib
import json
import secrets

_SEEDS_IN_BLOCK = 64


def draw_seed() -> int:
    """Draws a random seed from the operating system.

    Returns:
        An integer from 0 to 2**32 - 1.
    """
    return secrets.randbelow(2**32)


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Derives the seed of one purpose from the seed of a run.

    Args:
        seed: The seed of the run.
        *purpose: The purpose, from general to specific, such as ``"order", "training", 3``.

    Returns:
        An integer from 0 to 2**63 - 1, the same for the same arguments on every machine.
    """
    text = json.dumps([seed, *purpose])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


class SeedSeries:
    """The seeds of one purpose by number, equal to those of `derive_seed`, for a new seed in every iteration.

    They are derived in blocks. During training, code that runs once per iteration takes ten times as long as code that
    runs many times in a row.
    """

    def __init__(self, seed: int, *purpose: str | int) -> None:
        """Prepares the part that all seeds share.

        Args:
            seed: The seed of the run.
            *purpose: The purpose, without the number.
        """
        beginning = json.dumps([seed, *purpose, 0]).removesuffix("0]")
        self._beginning = hashlib.blake2b(beginning.encode(), digest_size=8)
        self._block: list[int] = []
        self._first = 0

    def at(self, number: int) -> int:
        """Returns ``derive_seed(seed, *purpose, number)``."""
        position = number - self._first
        if not 0 <= position < len(self._block):
            self._first, position = number, 0
            self._block = [self._derive(number + offset) for offset in range(_SEEDS_IN_BLOCK)]
        return self._block[position]

    def _derive(self, number: int) -> int:
        complete = self._beginning.copy()
        complete.update(b"%d]" % number)
        return int.from_bytes(complete.digest(), "big") >> 1
