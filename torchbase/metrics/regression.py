"""Metrics of regression: how close predicted numbers are to target numbers."""

from torch import Tensor

from torchbase.metrics.base import BaseMetricsClass
from torchbase.metrics.directions import higher_is_better, lower_is_better
from torchbase.metrics.epoch_kinds import accumulated
from torchbase.metrics.regression_states import (
    AbsoluteError,
    AbsolutePercentageError,
    Correlation,
    Determination,
    ExplainedVariance,
    LargestError,
    RootOfSquaredError,
    SquaredError,
    prepare_regression,
)
from torchbase.metrics.states import compute_mini_batch


class RegressionMetrics(BaseMetricsClass):
    """Metrics that compare predicted numbers with target numbers, value by value.

    Each metric takes ``target_values`` (of any real dtype) and ``predicted_values`` (of a floating-point dtype):
    tensors of the same shape with finite values, on any device. All sums are in float64. Each metric raises a TypeError
    for arguments of another type or dtype, and a ValueError for empty tensors, different shapes and values that are NaN
    or infinite.

    Tensors of two dimensions have the shape (samples, outputs). As in scikit-learn, the value is then the mean of the
    values of the outputs; only max_error is the maximum over all outputs. Tensors of any other number of dimensions are
    flattened, and each value is one prediction.

    Over an epoch, all metrics except the median store a few numbers, for any length of the epoch.

    Source: https://scikit-learn.org/stable/modules/model_evaluation.html#regression-metrics

    Args:
        keyword_maps: Maps keys that ``forward_pass`` returns to arguments of the metrics.

    Raises:
        TypeError: ``keyword_maps`` is not a mapping of strings to strings.
        MetricsError: ``keyword_maps`` doesn't fit the metrics.
    """

    @lower_is_better
    @accumulated(lambda metrics: AbsoluteError())
    def mean_absolute_error(self, *, target_values: Tensor, predicted_values: Tensor) -> float:
        """Returns the mean absolute error, at least 0, in the unit of the target; lower is better."""
        return compute_mini_batch(AbsoluteError(), target_values=target_values, predicted_values=predicted_values)

    @lower_is_better
    @accumulated(lambda metrics: SquaredError())
    def mean_squared_error(self, *, target_values: Tensor, predicted_values: Tensor) -> float:
        """Returns the mean squared error, at least 0, in the squared unit of the target; lower is better."""
        return compute_mini_batch(SquaredError(), target_values=target_values, predicted_values=predicted_values)

    @lower_is_better
    @accumulated(lambda metrics: RootOfSquaredError())
    def root_mean_squared_error(self, *, target_values: Tensor, predicted_values: Tensor) -> float:
        """Returns the square root of the mean squared error, at least 0, in the unit of the target; lower is better."""
        return compute_mini_batch(RootOfSquaredError(), target_values=target_values, predicted_values=predicted_values)

    @higher_is_better
    @accumulated(lambda metrics: Determination())
    def r2_score(self, *, target_values: Tensor, predicted_values: Tensor) -> float:
        """Returns the coefficient of determination, at most 1, without a unit; higher is better.

        It is ``1 - sum((target - predicted)**2) / sum((target - mean(target))**2)``. A prediction of the mean has 0. It
        is NaN, with a UserWarning, if all targets are equal.
        """
        return compute_mini_batch(Determination(), target_values=target_values, predicted_values=predicted_values)

    @higher_is_better
    @accumulated(lambda metrics: ExplainedVariance())
    def explained_variance(self, *, target_values: Tensor, predicted_values: Tensor) -> float:
        """Returns the explained variance, ``1 - var(target - predicted) / var(target)``, at most 1; higher is better.

        Unlike r2_score, it ignores a constant error. It is NaN, with a UserWarning, if all targets are equal.
        """
        return compute_mini_batch(ExplainedVariance(), target_values=target_values, predicted_values=predicted_values)

    @lower_is_better
    def median_absolute_error(self, *, target_values: Tensor, predicted_values: Tensor) -> float:
        """Returns the median absolute error, at least 0, in the unit of the target; lower is better.

        It is robust to outliers. Over an epoch, all values are stored.
        """
        from sklearn.metrics import median_absolute_error

        target, predicted = prepare_regression(target_values, predicted_values)
        return float(median_absolute_error(target.cpu().numpy(), predicted.cpu().numpy()))

    @lower_is_better
    @accumulated(lambda metrics: LargestError())
    def max_error(self, *, target_values: Tensor, predicted_values: Tensor) -> float:
        """Returns the maximum absolute error of all outputs, at least 0, in the unit of the target; lower is better."""
        return compute_mini_batch(LargestError(), target_values=target_values, predicted_values=predicted_values)

    @lower_is_better
    @accumulated(lambda metrics: AbsolutePercentageError())
    def mean_absolute_percentage_error(self, *, target_values: Tensor, predicted_values: Tensor) -> float:
        """Returns the mean of the absolute error divided by the absolute target, at least 0; lower is better.

        The value is a share: 0.1 is ten percent. As in scikit-learn, a target of 0 counts as 2.2e-16, which makes the
        value very large.
        """
        return compute_mini_batch(
            AbsolutePercentageError(), target_values=target_values, predicted_values=predicted_values
        )

    @higher_is_better
    @accumulated(lambda metrics: Correlation())
    def pearson_correlation(self, *, target_values: Tensor, predicted_values: Tensor) -> float:
        """Returns the Pearson correlation of targets and predictions, from -1 to 1; higher is better.

        It is NaN, with a UserWarning, if all targets or all predictions are equal.

        Source: https://en.wikipedia.org/wiki/Pearson_correlation_coefficient
        """
        return compute_mini_batch(Correlation(), target_values=target_values, predicted_values=predicted_values)
