"""What the metrics of regression keep over an epoch: sums of errors, and moments that merge without cancellation."""

import math
from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor

from torchbase.metrics.base import check_finite, check_tensors, describe_tensor
from torchbase.metrics.epoch_kinds import EpochState
from torchbase.metrics.states import give_undefined, to_float64

# What scikit-learn puts in the place of targets nearer to zero.
SMALLEST_TARGET = float(np.finfo(np.float64).eps)


def prepare_regression(target_values: Tensor, predicted_values: Tensor) -> tuple[Tensor, Tensor]:
    """Checks both tensors and gives them in float64, flattened, on one device.

    Args:
        target_values: The metric's argument.
        predicted_values: The metric's argument.

    Returns:
        The targets and the predictions.

    Raises:
        TypeError: One is no tensor, or not of a real dtype; the predictions are not of a floating-point dtype.
        ValueError: The shapes differ, or values are missing or not finite.
    """
    check_tensors(is_floating=False, target_values=target_values, predicted_values=predicted_values)
    check_tensors(is_floating=True, predicted_values=predicted_values)
    if target_values.is_complex():
        raise TypeError(f"{describe_tensor('target_values', target_values)} has to be of a real dtype.")
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
        """Gives the error of each value."""

    def update(self, *, target_values: Tensor, predicted_values: Tensor) -> None:
        """Adds the errors of a mini-batch."""
        target, predicted = prepare_regression(target_values, predicted_values)
        self._total += self.errors(target, predicted).sum().item()
        self._count += target.numel()

    def compute(self) -> float:
        """Gives the mean."""
        return self._total / self._count


class AbsoluteError(MeanError):
    """The mean of the distances."""

    @staticmethod
    def errors(target: Tensor, predicted: Tensor) -> Tensor:
        """Gives the distance of each value."""
        return (target - predicted).abs()


class SquaredError(MeanError):
    """The mean of the squares of the errors."""

    @staticmethod
    def errors(target: Tensor, predicted: Tensor) -> Tensor:
        """Gives the square of each error."""
        return (target - predicted).square()


class RootOfSquaredError(SquaredError):
    """The root of the mean of the squares of the errors."""

    def compute(self) -> float:
        """Gives the root, which is taken once, at the end."""
        return math.sqrt(super().compute())


class AbsolutePercentageError(MeanError):
    """The mean of the distances, each as a share of its target."""

    @staticmethod
    def errors(target: Tensor, predicted: Tensor) -> Tensor:
        """Gives the distance of each value as a share of its target."""
        return (target - predicted).abs() / target.abs().clamp(min=SMALLEST_TARGET)


class LargestError(EpochState):
    """The largest distance."""

    def __init__(self) -> None:
        self._largest = 0.0

    def update(self, *, target_values: Tensor, predicted_values: Tensor) -> None:
        """Looks for a larger one in a mini-batch."""
        target, predicted = prepare_regression(target_values, predicted_values)
        self._largest = max(self._largest, (target - predicted).abs().max().item())

    def compute(self) -> float:
        """Gives it."""
        return self._largest


class Moments(EpochState):
    """Means and sums of squares about them, of the targets, the predictions and the errors.

    Mini-batches are merged after Chan, Golub and LeVeque (1983): a plain sum of squares would lose all digits where
    the mean is large beside the spread.
    """

    def __init__(self) -> None:
        self._count = 0
        self._means = torch.zeros(3, dtype=torch.float64)
        # About the means: of the targets, the predictions and the errors, and of targets times predictions.
        self._sums = torch.zeros(4, dtype=torch.float64)
        # A constant is known by its range, since rounding leaves its sum of squares a little above 0.
        self._lowest = torch.full((2,), math.inf, dtype=torch.float64)
        self._highest = torch.full((2,), -math.inf, dtype=torch.float64)

    def update(self, *, target_values: Tensor, predicted_values: Tensor) -> None:
        """Merges the moments of a mini-batch."""
        target, predicted = prepare_regression(target_values, predicted_values)
        rows = torch.stack([target, predicted, target - predicted])
        means = rows.mean(dim=1)
        about = rows - means[:, None]
        sums = torch.cat([about.square().sum(dim=1), (about[0] * about[1]).sum()[None]])
        lowest, highest = torch.aminmax(rows[:2], dim=1)
        # All numbers in one copy: each copy from an accelerator waits for it.
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
        """Gives one minus the share of the targets' sum of squares that the errors leave."""
        if self._target_is_constant():
            return give_undefined("r2_score of RegressionMetrics", "all targets are equal, so they have no variance")
        squared_errors = self._sums[2] + self._count * self._means[2].square()
        return 1 - float(squared_errors / self._sums[0])


class ExplainedVariance(Moments):
    """The share of the variance that is explained."""

    def compute(self) -> float:
        """Gives one minus the share of the targets' variance that the errors have."""
        if self._target_is_constant():
            return give_undefined(
                "explained_variance of RegressionMetrics", "all targets are equal, so they have no variance"
            )
        return 1 - float(self._sums[2] / self._sums[0])


class Correlation(Moments):
    """Pearson's correlation."""

    def compute(self) -> float:
        """Gives the covariance divided by both standard deviations."""
        for name, is_constant in (
            ("targets", self._target_is_constant()),
            ("predictions", self._predicted_is_constant()),
        ):
            if is_constant:
                return give_undefined(
                    "pearson_correlation of RegressionMetrics", f"all {name} are equal, so they have no variance"
                )
        # The roots one by one, since the product of the sums may leave the range of a float.
        correlation = float(self._sums[3] / self._sums[0].sqrt() / self._sums[1].sqrt())
        return min(1.0, max(-1.0, correlation))
