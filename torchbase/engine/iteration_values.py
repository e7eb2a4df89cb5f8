"""The values of iterations, stored on their device and read in blocks.

Reading the loss in every iteration would synchronize with the device each time. A block copies the values of many
iterations to the host in one transfer, and each value still belongs to its iteration.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import torch

from torchbase.errors import StepError, describe_returned

MAXIMUM_ITERATIONS_IN_A_BLOCK = 64
MAXIMUM_SECONDS_IN_A_BLOCK = 1.0


class LossWeight(NamedTuple):
    """How much a mini-batch weighs in averages of its loss.

    Attributes:
        value: A number, or a tensor of shape () in double precision on its device.
        names: The names of the values that it weights: the loss, and its parts.
    """

    value: torch.Tensor | float
    names: frozenset[str]


class IterationValues(NamedTuple):
    """The values of one iteration, on the host.

    Attributes:
        iteration: The iteration, counted over the whole run within its phase; the first is 1.
        mini_batch: The mini-batch, counted within its epoch; the first is 1.
        samples: The number of samples in the mini-batch.
        values: The loss and all else that was logged in this iteration, by name. A mini-batch that weighs nothing has
            no loss.
        loss_weights: How much the mini-batch weighs in averages of its loss, numbers: one, or one for each turn of an
            optimizer. Empty if it is its samples.
    """

    iteration: int
    mini_batch: int
    samples: int
    values: dict[str, float]
    loss_weights: tuple[LossWeight, ...] = ()


_Row = tuple[int, int, int, dict[str, torch.Tensor | float], tuple[LossWeight, ...]]


class ValueBlock:
    """Collects the values of iterations until they are read together."""

    def __init__(self) -> None:
        self._rows: list[_Row] = []
        self._started_at: float | None = None

    def append(
        self,
        iteration: int,
        mini_batch: int,
        samples: int,
        values: dict[str, torch.Tensor | float],
        loss_weights: tuple[LossWeight, ...] = (),
    ) -> None:
        """Stores the values of one iteration.

        Args:
            iteration: The iteration, counted over the whole run within its phase; the first is 1.
            mini_batch: The mini-batch, counted within its epoch; the first is 1.
            samples: The number of samples in the mini-batch.
            values: Numbers, or tensors of shape () on any device.
            loss_weights: How much the mini-batch weighs in averages of its loss; empty for its samples.
        """
        self._rows.append((iteration, mini_batch, samples, values, loss_weights))

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

        Raises:
            StepError: If a value isn't a number, or the weight of a loss not a number of at least 0.
        """
        rows, self._rows, self._started_at = self._rows, [], None
        try:
            return _read(rows)
        except (TypeError, ValueError, RuntimeError):
            for iteration, _, _, values, _ in rows:
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


def check_weight(weight: Any, when: str = "") -> float:
    """Refuses a weight of a loss that isn't a number of at least 0.

    Args:
        weight: What ``infer_loss_weight`` returned. It is read from its device.
        when: When it was returned, for the message, with a space before it.

    Returns:
        The number.

    Raises:
        StepError: If it is anything else.
    """
    found = describe_returned(weight)
    if isinstance(weight, torch.Tensor):
        found = f"a tensor of shape {tuple(weight.shape)}, {weight.dtype}"
        is_number = weight.dim() == 0 and not weight.is_complex() and weight.dtype is not torch.bool
    else:
        is_number = isinstance(weight, Real) and not isinstance(weight, bool)
    if is_number:
        number = float(weight)
        if 0 <= number < math.inf:
            return number
        found = str(number)
    raise StepError(
        "infer_loss_weight has to return how much the loss of a mini-batch weighs, a finite number of at least 0 or a "
        f"tensor of shape () with one, but returned {found}{when}. To fix, return what the loss is a mean over, such "
        'as the number of tokens: int((mini_batch["label"] != -100).sum()).'
    )


def _read(rows: Sequence[_Row]) -> list[IterationValues]:
    read = _read_values(rows)
    if not any(row[4] for row in rows):
        return read
    weights = [weight for row in rows for weight in row[4]]
    on_device = [one.value for one in weights if isinstance(one.value, torch.Tensor)]
    numbers = iter(_read_scalars(on_device))
    return [_weighted(one, row[4], numbers) for one, row in zip(read, rows, strict=True)]


def _weighted(read: IterationValues, weights: Sequence[LossWeight], numbers: Iterator[float]) -> IterationValues:
    found = [one._replace(value=next(numbers)) if isinstance(one.value, torch.Tensor) else one for one in weights]
    without = {name for one in found if _is_zero(one, read.iteration) for name in one.names}
    values = {name: value for name, value in read.values.items() if name not in without}
    return read._replace(values=values, loss_weights=tuple(found))


def _is_zero(weight: LossWeight, iteration: int) -> bool:
    return check_weight(weight.value, f" in iteration {iteration}") == 0


def _read_values(rows: Sequence[_Row]) -> list[IterationValues]:
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
        for iteration, mini_batch, samples, values, _ in rows
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
