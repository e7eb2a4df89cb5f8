"""The states of the regression metrics over an epoch: sums of errors, and moments that merge without cancellation."""

import math
from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor

from torchbase.metrics.base import check_finite, check_tensors, describe_tensor
from torchbase.metrics.epoch_kinds import EpochState
from torchbase.metrics.states import nan_with_warning, to_float64

# As in scikit-learn, it replaces targets that are closer to zero.
SMALLEST_TARGET = float(np.finfo(np.float64).eps)


def prepare_regression(target_values: Tensor, predicted_values: Tensor) -> tuple[Tensor, Tensor]:
    """Checks both tensors and returns them flattened, in float64 and on the same device.

    Args:
        target_values: The argument of the metric.
        predicted_values: The argument of the metric.

    Returns:
        The targets and the predictions.

    Raises:
        TypeError: An argument is not a tensor, the targets are complex, or the dtype of the predictions is not
            floating-point.
        ValueError: The shapes differ, the tensors are empty, or a value is not finite.
    """
    check_tensors(is_floating=False, target_values=target_values, predicted_values=predicted_values)
    check_tensors(is_floating=True, predicted_values=predicted_values)
    if target_values.is_complex():
        raise TypeError(f"{describe_tensor('target_values', target_values)} has to have a real dtype.")
    check_finite("target_values", target_values)
    check_finite("predicted_values", predicted_values)
    predicted = to_float64(predicted_values).flatten()
    return to_float64(target_values).flatten().to(predicted.device), predicted


class MeanError(EpochState):
    """The mean over all values of a function of the target and the prediction."""

    def __init__(self) -> None:
        self._total, self._count = 0.0, 0

    @staticmethod
    @abstractmethod
    def errors(target: Tensor, predicted: Tensor) -> Tensor:
        """Computes the error of each value."""

    def update(self, *, target_values: Tensor, predicted_values: Tensor) -> None:
        """Adds the errors of a mini-batch."""
        target, predicted = prepare_regression(target_values, predicted_values)
        self._total += self.errors(target, predicted).sum().item()
        self._count += target.numel()

    def compute(self) -> float:
        """Computes the mean."""
        return self._total / self._count


class AbsoluteError(MeanError):
    """The mean absolute error."""

    @staticmethod
    def errors(target: Tensor, predicted: Tensor) -> Tensor:
        """Computes the absolute error of each value."""
        return (target - predicted).abs()


class SquaredError(MeanError):
    """The mean squared error."""

    @staticmethod
    def errors(target: Tensor, predicted: Tensor) -> Tensor:
        """Computes the squared error of each value."""
        return (target - predicted).square()


class RootOfSquaredError(SquaredError):
    """The square root of the mean squared error."""

    def compute(self) -> float:
        """Computes the square root, once at the end of the epoch."""
        return math.sqrt(super().compute())


class AbsolutePercentageError(MeanError):
    """The mean absolute error as a share of the target."""

    @staticmethod
    def errors(target: Tensor, predicted: Tensor) -> Tensor:
        """Computes the absolute error of each value as a share of its target."""
        return (target - predicted).abs() / target.abs().clamp(min=SMALLEST_TARGET)


class LargestError(EpochState):
    """The maximum absolute error."""

    def __init__(self) -> None:
        self._largest = 0.0

    def update(self, *, target_values: Tensor, predicted_values: Tensor) -> None:
        """Updates the maximum with a mini-batch."""
        target, predicted = prepare_regression(target_values, predicted_values)
        self._largest = max(self._largest, (target - predicted).abs().max().item())

    def compute(self) -> float:
        """Returns the maximum."""
        return self._largest


class Moments(EpochState):
    """Means and centered sums of squares of the targets, the predictions and the errors.

    Mini-batches are merged as in Chan, Golub and LeVeque (1983). A plain sum of squares loses its precision if the
    mean is much larger than the standard deviation.
    """

    def __init__(self) -> None:
        self._count = 0
        self._means = torch.zeros(3, dtype=torch.float64, device="cpu")
        # Centered sums: squares of the targets, the predictions and the errors; products of targets and predictions.
        self._sums = torch.zeros(4, dtype=torch.float64, device="cpu")
        # The range detects constants, since rounding can leave their sum of squares above 0.
        self._lowest = torch.full((2,), math.inf, dtype=torch.float64, device="cpu")
        self._highest = torch.full((2,), -math.inf, dtype=torch.float64, device="cpu")

    def update(self, *, target_values: Tensor, predicted_values: Tensor) -> None:
        """Merges the moments of a mini-batch."""
        target, predicted = prepare_regression(target_values, predicted_values)
        rows = torch.stack([target, predicted, target - predicted])
        means = rows.mean(dim=1)
        centered = rows - means[:, None]
        sums = torch.cat([centered.square().sum(dim=1), (centered[0] * centered[1]).sum()[None]])
        lowest, highest = torch.aminmax(rows[:2], dim=1)
        # In one copy, since each copy from an accelerator synchronizes.
        numbers = torch.cat([means, sums, lowest, highest]).cpu()
        self._merge(target.numel(), numbers[:3], numbers[3:7])
        self._lowest, self._highest = self._lowest.minimum(numbers[7:9]), self._highest.maximum(numbers[9:])

    def _merge(self, count: int, means: Tensor, sums: Tensor) -> None:
        total = self._count + count
        shift = means - self._means
        shifts = torch.cat([shift.square(), (shift[0] * shift[1])[None]])
        self._sums = self._sums + sums + shifts * (self._count * count / total)
        self._means = self._means + shift * (count / total)
        self._count = total

    def _target_is_constant(self) -> bool:
        return bool(self._lowest[0] == self._highest[0])

    def _predicted_is_constant(self) -> bool:
        return bool(self._lowest[1] == self._highest[1])


class Determination(Moments):
    """The coefficient of determination."""

    def compute(self) -> float:
        """Computes one minus the sum of squared errors divided by the centered sum of squares of the targets."""
        if self._target_is_constant():
            return nan_with_warning("r2_score of RegressionMetrics", "all targets are equal, so they have no variance")
        squared_errors = self._sums[2] + self._count * self._means[2].square()
        return 1 - float(squared_errors / self._sums[0])


class ExplainedVariance(Moments):
    """The explained variance."""

    def compute(self) -> float:
        """Computes one minus the variance of the errors divided by the variance of the targets."""
        if self._target_is_constant():
            return nan_with_warning(
                "explained_variance of RegressionMetrics", "all targets are equal, so they have no variance"
            )
        return 1 - float(self._sums[2] / self._sums[0])


class Correlation(Moments):
    """The Pearson correlation."""

    def compute(self) -> float:
        """Computes the covariance divided by both standard deviations."""
        for name, is_constant in (
            ("targets", self._target_is_constant()),
            ("predictions", self._predicted_is_constant()),
        ):
            if is_constant:
                return nan_with_warning(
                    "pearson_correlation of RegressionMetrics", f"all {name} are equal, so they have no variance"
                )
        # Divided by the roots separately, since the product of the sums can overflow or underflow.
        correlation = float(self._sums[3] / self._sums[0].sqrt() / self._sums[1].sqrt())
        return min(1.0, max(-1.0, correlation))
