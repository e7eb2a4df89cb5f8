"""The values of single iterations, kept on their device and read in blocks.

Reading a loss at every iteration would make the host wait for the device each time. Here the values of many iterations
come to the host in one transfer; each still belongs to its own iteration.
"""

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import torch

MAXIMUM_ITERATIONS_IN_A_BLOCK = 64
MAXIMUM_SECONDS_IN_A_BLOCK = 1.0


class IterationValues(NamedTuple):
    """What one iteration gave, on the host.

    Attributes:
        iteration: The iteration, counted over the whole run within its phase; the first is 1.
        mini_batch: The mini-batch, counted within its epoch; the first is 1.
        samples: How many samples the mini-batch held.
        values: The loss and whatever else was logged in this iteration, by name.
    """

    iteration: int
    mini_batch: int
    samples: int
    values: dict[str, float]


class ValueBlock:
    """Collects the values of iterations until they are read together."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, int, int, dict[str, torch.Tensor | float]]] = []
        self._begun_at = 0.0

    def append(self, iteration: int, mini_batch: int, samples: int, values: dict[str, torch.Tensor | float]) -> None:
        """Keeps the values of one iteration.

        Args:
            iteration: The iteration, counted over the whole run within its phase; the first is 1.
            mini_batch: The mini-batch, counted within its epoch; the first is 1.
            samples: How many samples the mini-batch held.
            values: Numbers, or tensors of shape () on any device.
        """
        if not self._rows:
            self._begun_at = time.monotonic()
        self._rows.append((iteration, mini_batch, samples, values))

    def is_due(self) -> bool:
        """Tells whether it is time to read: many iterations are waiting, or the first has waited for a second."""
        rows = self._rows
        return bool(rows) and (
            len(rows) >= MAXIMUM_ITERATIONS_IN_A_BLOCK
            or time.monotonic() - self._begun_at >= MAXIMUM_SECONDS_IN_A_BLOCK
        )

    def read(self) -> list[IterationValues]:
        """Brings the waiting values to the host, one transfer a device and type, and empties the block.

        Returns:
            One entry an iteration, in their order.
        """
        rows, self._rows = self._rows, []
        tensors = [value for row in rows for value in row[3].values() if isinstance(value, torch.Tensor)]
        numbers = iter(_read_scalars(tensors))
        return [
            IterationValues(
                iteration,
                mini_batch,
                samples,
                {
                    name: next(numbers) if isinstance(value, torch.Tensor) else float(value)
                    for name, value in values.items()
                },
            )
            for iteration, mini_batch, samples, values in rows
        ]


def _read_scalars(tensors: Sequence[torch.Tensor]) -> list[float]:
    positions_of_kind: dict[tuple[torch.device, torch.dtype], list[int]] = defaultdict(list)
    for position, tensor in enumerate(tensors):
        positions_of_kind[tensor.device, tensor.dtype].append(position)
    numbers = [0.0] * len(tensors)
    for positions in positions_of_kind.values():
        together = torch.stack([tensors[position] for position in positions]).tolist()
        for position, number in zip(positions, together, strict=True):
            numbers[position] = float(number)
    return numbers
