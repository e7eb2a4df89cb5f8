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
    """Checks both tensors and returns them in float64, on the same device and of shape (samples, outputs).

    Args:
        target_values: The argument of the metric.
        predicted_values: The argument of the metric.

    Returns:
        The targets and the predictions. Tensors of two dimensions keep their outputs; others have a single output.

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
    shape = predicted_values.shape if predicted_values.dim() == 2 else (-1, 1)
    predicted = to_float64(predicted_values).reshape(shape)
    return to_float64(target_values).reshape(shape).to(predicted.device), predicted


def check_output_count(samples: int, previous: Tensor, current: Tensor) -> None:
    """Checks that a mini-batch has as many outputs as the previous mini-batches.

    Args:
        samples: The number of samples in the previous mini-batches.
        previous: Their numbers, with the outputs in the last dimension.
        current: The numbers of this mini-batch, likewise.

    Raises:
        ValueError: The numbers of outputs differ.
    """
    if samples > 0 and previous.shape[-1] != current.shape[-1]:
        raise ValueError(
            f"predicted_values have {current.shape[-1]} outputs, but those of the previous mini-batches have "
            f"{previous.shape[-1]}. To fix, return tensors of shape (samples, outputs) with the same number of outputs "
            "for every mini-batch in forward_pass; or flatten them, if each value is a prediction of its own."
        )


class MeanError(EpochState):
    """The mean over the samples of a function of the target and the prediction, averaged over the outputs."""

    def __init__(self) -> None:
        self._totals, self._count = torch.zeros(1, dtype=torch.float64, device="cpu"), 0

    @staticmethod
    @abstractmethod
    def errors(target: Tensor, predicted: Tensor) -> Tensor:
        """Computes the error of each value."""

    def update(self, *, target_values: Tensor, predicted_values: Tensor) -> None:
        """Adds the errors of a mini-batch."""
        target, predicted = prepare_regression(target_values, predicted_values)
        totals = self.errors(target, predicted).sum(dim=0).cpu()
        check_output_count(self._count, self._totals, totals)
        self._totals = self._totals + totals
        self._count += len(target)

    def compute(self) -> float:
        """Computes the mean."""
        return self.of_outputs(self._totals / self._count).mean().item()

    @staticmethod
    def of_outputs(means: Tensor) -> Tensor:
        """Computes the value of each output from its mean."""
        return means


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
    """The square root of the mean squared error, averaged over the outputs."""

    @staticmethod
    def of_outputs(means: Tensor) -> Tensor:
        """Computes the square roots, once at the end of the epoch."""
        return means.sqrt()


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
    """Means and centered sums of squares of the targets, the predictions and the errors, for each output.

    Mini-batches are merged as in Chan, Golub and LeVeque (1983). A plain sum of squares loses its precision if the
    mean is much larger than the standard deviation.
    """

    def __init__(self) -> None:
        self._count = 0
        self._means = torch.zeros(3, 1, dtype=torch.float64, device="cpu")
        # Centered sums: squares of the targets, the predictions and the errors; products of targets and predictions.
        self._sums = torch.zeros(4, 1, dtype=torch.float64, device="cpu")
        # The range detects constants, since rounding can leave their sum of squares above 0.
        self._lowest = torch.full((2, 1), math.inf, dtype=torch.float64, device="cpu")
        self._highest = torch.full((2, 1), -math.inf, dtype=torch.float64, device="cpu")

    def update(self, *, target_values: Tensor, predicted_values: Tensor) -> None:
        """Merges the moments of a mini-batch."""
        target, predicted = prepare_regression(target_values, predicted_values)
        rows = torch.stack([target, predicted, target - predicted])
        means = rows.mean(dim=1)
        centered = rows - means[:, None]
        sums = torch.cat([centered.square().sum(dim=1), (centered[0] * centered[1]).sum(dim=0)[None]])
        lowest, highest = torch.aminmax(rows[:2], dim=1)
        # In one copy, since each copy from an accelerator synchronizes.
        numbers = torch.cat([means, sums, lowest, highest]).cpu()
        check_output_count(self._count, self._means, numbers)
        self._merge(len(target), numbers[:3], numbers[3:7])
        self._lowest, self._highest = self._lowest.minimum(numbers[7:9]), self._highest.maximum(numbers[9:])

    def _merge(self, count: int, means: Tensor, sums: Tensor) -> None:
        total = self._count + count
        shift = means - self._means
        shifts = torch.cat([shift.square(), (shift[0] * shift[1])[None]])
        self._sums = self._sums + sums + shifts * (self._count * count / total)
        self._means = self._means + shift * (count / total)
        self._count = total

    def _describe_constant(self, row: int, name: str) -> str | None:
        """Describes the first output whose targets (row 0) or predictions (row 1) are equal; None if there is none."""
        is_constant = self._lowest[row] == self._highest[row]
        if not is_constant.any():
            return None
        of_output = f" of output {int(is_constant.int().argmax())}" if len(is_constant) > 1 else ""
        return f"all {name}{of_output} are equal, so they have no variance"


class Determination(Moments):
    """The coefficient of determination, averaged over the outputs."""

    def compute(self) -> float:
        """Computes one minus the sum of squared errors divided by the centered sum of squares of the targets."""
        constant = self._describe_constant(0, "targets")
        if constant is not None:
            return nan_with_warning("r2_score of RegressionMetrics", constant)
        squared_errors = self._sums[2] + self._count * self._means[2].square()
        return float((1 - squared_errors / self._sums[0]).mean())


class ExplainedVariance(Moments):
    """The explained variance, averaged over the outputs."""

    def compute(self) -> float:
        """Computes one minus the variance of the errors divided by the variance of the targets."""
        constant = self._describe_constant(0, "targets")
        if constant is not None:
            return nan_with_warning("explained_variance of RegressionMetrics", constant)
        return float((1 - self._sums[2] / self._sums[0]).mean())


class Correlation(Moments):
    """The Pearson correlation, averaged over the outputs."""

    def compute(self) -> float:
        """Computes the covariance divided by both standard deviations."""
        constant = self._describe_constant(0, "targets") or self._describe_constant(1, "predictions")
        if constant is not None:
            return nan_with_warning("pearson_correlation of RegressionMetrics", constant)
        # Divided by the roots separately, since the product of the sums can overflow or underflow.
        correlations = self._sums[3] / self._sums[0].sqrt() / self._sums[1].sqrt()
        return float(correlations.clamp(-1.0, 1.0).mean())
