"""Curves of averages over epochs: collected from runs, scaled, thin_out out, and with ticks at round numbers."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torchbase.run_directory.record import Epoch

Points = Sequence[tuple[float, float]]
LOGARITHMIC_FROM_RATIO = 20.0
TRAINING = "training"
LARGEST_VALUE, SMALLEST_STEP = 1e300, 1e-300


def curves_by_name(epochs: Sequence[Epoch]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Collects the curves of a run.

    Args:
        epochs: The averages of a run, in the order in which they were measured.

    Returns:
        By the name of the average and the phase, the epochs and their values; the loss comes first. A value measured
        within an epoch lies between two epochs.
    """
    ends = {epoch.epoch: epoch.iterations for epoch in epochs if epoch.phase == TRAINING}
    curves: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for epoch in epochs:
        for name, value in epoch.averages.items():
            curves.setdefault(name, {}).setdefault(epoch.phase, []).append((_position(epoch, ends), value))
    return dict(sorted(curves.items(), key=lambda item: item[0] != "loss"))


def _position(epoch: Epoch, ends: Mapping[int, int]) -> float:
    begin, end = ends.get(epoch.epoch - 1, 0), ends.get(epoch.epoch)
    if end is None:  # the epoch isn't complete: assume that it is as long as the one before
        end = 2 * begin - ends.get(epoch.epoch - 2, 0)
    if not begin < epoch.iterations < end:
        return epoch.epoch
    return epoch.epoch - 1 + (epoch.iterations - begin) / (end - begin)


@dataclass(frozen=True)
class Scale:
    """Maps values to positions on an axis.

    Attributes:
        low: The value at 0.
        high: The value at 1.
        is_logarithmic: Whether equal steps along the axis are equal ratios.
    """

    low: float
    high: float
    is_logarithmic: bool = False

    def position(self, value: float) -> float:
        """Returns the position of a value.

        Args:
            value: A finite value.

        Returns:
            A position from 0 to 1 for values from ``low`` to ``high``.
        """
        if self.is_logarithmic:
            return (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return (value - self.low) / (self.high - self.low)

    def value_at(self, position: float) -> float:
        """Returns the value at a position.

        Args:
            position: From 0 to 1.

        Returns:
            The value.
        """
        if self.is_logarithmic:
            return math.exp(math.log(self.low) + (math.log(self.high) - math.log(self.low)) * position)
        return self.low + (self.high - self.low) * position

    def ticks(self, count: int) -> list[float]:
        """Returns round values between ``low`` and ``high``.

        Args:
            count: The approximate number of values.

        Returns:
            The values in ascending order.
        """
        if not self.is_logarithmic:
            return _round_values(self.low, self.high, count)
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for digits in ((1,), (1, 3), (1, 2, 5)):
            found = [value for decade in decades for digit in digits if self._contains(value := digit * 10.0**decade)]
            if len(found) >= count:
                break
        every = max(1, round(len(found) / count))
        return found[::every]

    def _contains(self, value: float) -> bool:
        # By position, since a tolerance by value is wide on a scale of nearly equal values.
        return -1e-9 <= self.position(value) <= 1 + 1e-9


def can_be_drawn(value: float) -> bool:
    """Whether a value can be placed on a scale: it is finite, and differences of such values are finite, too.

    Args:
        value: The value.
    """
    return abs(value) <= LARGEST_VALUE


def span_magnitudes(curves: Iterable[Points]) -> bool:
    """Whether curves are easier to read on a logarithmic scale.

    Args:
        curves: The curves.
    """
    values = _finite_values(curves)
    return bool(values) and min(values) > 0 and max(values) / min(values) >= LOGARITHMIC_FROM_RATIO


def make_scale(curves: Iterable[Points], is_logarithmic: bool) -> Scale | None:
    """Returns the scale on which curves fill a drawing.

    Args:
        curves: The curves.
        is_logarithmic: Whether the scale is logarithmic. It is linear in any case if a value isn't positive.

    Returns:
        The scale, or None if there is no finite value.
    """
    values = _finite_values(curves)
    if not values:
        return None
    low, high = min(values), max(values)
    if low == high:
        margin = abs(low) / 10 or 1.0
        low, high = low - margin, high + margin
    return Scale(low, high, is_logarithmic and low > 0)


def _finite_values(curves: Iterable[Points]) -> list[float]:
    return [value for curve in curves for _, value in curve if can_be_drawn(value)]


def make_epoch_scale(curves: Iterable[Points]) -> Scale:
    """Returns the scale of the epochs.

    Args:
        curves: The curves, at least one with a point.

    Returns:
        The scale from the first epoch to the last.
    """
    epochs = [epoch for curve in curves for epoch, _ in curve]
    first, last = min(epochs), max(epochs)
    return Scale(first, last) if first < last else Scale(first - 0.5, last + 0.5)


def thin_out(curve: Points, columns: int) -> list[list[tuple[float, float]]]:
    """Removes points that can't be seen, and breaks a curve at values that aren't finite.

    Args:
        curve: The curve, in the order of its epochs.
        columns: The width of the drawing, in columns of dots.

    Returns:
        Unbroken pieces. They have the lowest and the highest point of each column.
    """
    pieces: list[list[tuple[float, float]]] = [[]]
    for point in curve:
        if can_be_drawn(point[1]):
            pieces[-1].append(point)
        elif pieces[-1]:
            pieces.append([])
    length = max(1, math.ceil(len(curve) / columns))
    return [_extremes(piece, length) for piece in pieces if piece]


def _extremes(piece: Points, length: int) -> list[tuple[float, float]]:
    if length <= 2:
        return list(piece)
    extremes = []
    for begin in range(0, len(piece), length):
        block = piece[begin : begin + length]
        extremes += sorted({min(block, key=lambda point: point[1]), max(block, key=lambda point: point[1])})
    return sorted({piece[0], *extremes, piece[-1]})


def _round_values(low: float, high: float, count: int) -> list[float]:
    rough = (high - low) / max(1, count)
    if rough < SMALLEST_STEP:
        return []
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = magnitude * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]
