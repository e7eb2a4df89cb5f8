"""The values of iterations, stored on their device and read in blocks.

Reading the loss in every iteration would synchronize with the device each time. A block copies the values of many
iterations to the host in one transfer, and each value still belongs to its iteration.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from torchbase.errors import StepError

MAXIMUM_ITERATIONS_IN_A_BLOCK = 64
MAXIMUM_SECONDS_IN_A_BLOCK = 1.0


class IterationValues(NamedTuple):
    """The values of one iteration, on the host.

    Attributes:
        iteration: The iteration, counted over the whole run within its phase; the first is 1.
        mini_batch: The mini-batch, counted within its epoch; the first is 1.
        samples: The number of samples in the mini-batch.
        values: The loss and all else that was logged in this iteration, by name.
    """

    iteration: int
    mini_batch: int
    samples: int
    values: dict[str, float]


class ValueBlock:
    """Collects the values of iterations until they are read together."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, int, int, dict[str, torch.Tensor | float]]] = []
        self._started_at: float | None = None

    def append(self, iteration: int, mini_batch: int, samples: int, values: dict[str, torch.Tensor | float]) -> None:
        """Stores the values of one iteration.

        Args:
            iteration: The iteration, counted over the whole run within its phase; the first is 1.
            mini_batch: The mini-batch, counted within its epoch; the first is 1.
            samples: The number of samples in the mini-batch.
            values: Numbers, or tensors of shape () on any device.
        """
        self._rows.append((iteration, mini_batch, samples, values))

    def is_due(self, now: float) -> bool:
        """Whether the block should be read: 64 iterations are stored, or the first was stored a second ago.

        Args:
            now: The seconds of a clock, right after an iteration.
        """
        if not self._rows:
            return False
        if self._started_at is None:
            self._started_at = now
        return len(self._rows) >= MAXIMUM_ITERATIONS_IN_A_BLOCK or now - self._started_at >= MAXIMUM_SECONDS_IN_A_BLOCK

    def read(self) -> list[IterationValues]:
        """Copies the stored values to the host, with one transfer per device and dtype, and empties the block.

        Returns:
            One entry per iteration, in order.
        """
        rows, self._rows, self._started_at = self._rows, [], None
        try:
            return _read(rows)
        except (TypeError, ValueError, RuntimeError):
            for iteration, _, _, values in rows:
                for name, value in values.items():
                    check_is_number(name, value, f" in iteration {iteration}")
            raise


def check_is_number(name: str, value: object, when: str = "") -> None:
    """Refuses a logged value that is no number.

    Args:
        name: The name of the value.
        value: The value.
        when: When it was logged, for the message, with a space before it.

    Raises:
        StepError: If it isn't a real number, or a tensor or array of shape () with one.
    """
    if isinstance(value, torch.Tensor | np.ndarray):
        is_number = value.ndim == 0 and "complex" not in str(value.dtype)
        found = f"{type(value).__name__} of shape {tuple(value.shape)}, {value.dtype}"
    else:
        is_number = hasattr(type(value), "__float__") and not isinstance(value, np.complexfloating)
        found = "None" if value is None else f"{type(value).__name__}: {value!r:.80}"
    if not is_number:
        raise StepError(
            f"The value '{name}'{when} has to be a number or a tensor of shape (), but is {found}. To fix, log a "
            "number, for example a mean, and return one from get_loss_value if you override it."
        )


def _read(rows: Sequence[tuple[int, int, int, dict[str, torch.Tensor | float]]]) -> list[IterationValues]:
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
        values = torch.stack([tensors[position] for position in positions]).tolist()
        for position, number in zip(positions, values, strict=True):
            numbers[position] = float(number)
    return numbers
