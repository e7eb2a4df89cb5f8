"""Metrics of regression: how near predicted numbers come to their targets."""

from torch import Tensor

from torchbase.metrics.base import BaseMetricsClass
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
from torchbase.metrics.states import value_at_once


class RegressionMetrics(BaseMetricsClass):
    """Compares predicted numbers with target numbers, value by value.

    Each metric takes ``target_values`` (of any real dtype) and ``predicted_values`` (of a floating-point dtype):
    tensors of one shape, whichever it is, on any device, with finite values. They are flattened: each value is one
    prediction, so that several outputs of a network count as one. All sums are in float64. Each metric raises a
    TypeError for what is no such tensor, and a ValueError for empty tensors, differing shapes and values that are NaN
    or infinite.

    All but the median keep a few numbers over an epoch, whatever its length.

    Source: https://scikit-learn.org/stable/modules/model_evaluation.html#regression-metrics

    Args:
        keyword_maps: From keys of what ``forward_pass`` returns to names of the metrics' arguments.

    Raises:
        TypeError: ``keyword_maps`` is not a mapping of strings to strings.
        MetricsError: ``keyword_maps`` don't fit the metrics.
    """

    @accumulated(lambda metrics: AbsoluteError())
    def mean_absolute_error(self, *, target_values: Tensor, predicted_values: Tensor) -> float:
        """Return the mean distance from the target, at least 0, in the unit of the target; less is better."""
        return value_at_once(AbsoluteError(), target_values=target_values, predicted_values=predicted_values)

    @accumulated(lambda metrics: SquaredError())
    def mean_squared_error(self, *, target_values: Tensor, predicted_values: Tensor) -> float:
        """Return the mean square of the error, at least 0, in the square of the target's unit; less is better."""
        return value_at_once(SquaredError(), target_values=target_values, predicted_values=predicted_values)

    @accumulated(lambda metrics: RootOfSquaredError())
    def root_mean_squared_error(self, *, target_values: Tensor, predicted_values: Tensor) -> float:
        """Return the root of the mean squared error, at least 0, in the unit of the target; less is better."""
        return value_at_once(RootOfSquaredError(), target_values=target_values, predicted_values=predicted_values)

    @accumulated(lambda metrics: Determination())
    def r2_score(self, *, target_values: Tensor, predicted_values: Tensor) -> float:
        """Return the coefficient of determination, at most 1, without a unit; more is better.

        It is one minus the sum of the squared errors divided by the targets' sum of squares about their mean: 0 for
        predictions of that mean. NaN, with a UserWarning, if all targets are equal.
        """
        return value_at_once(Determination(), target_values=target_values, predicted_values=predicted_values)

    @accumulated(lambda metrics: ExplainedVariance())
    def explained_variance(self, *, target_values: Tensor, predicted_values: Tensor) -> float:
        """Return one minus the variance of the error over that of the targets, at most 1; more is better.

        Unlike r2_score it doesn't see an error that is the same for all values. NaN, with a UserWarning, if all
        targets are equal.
        """
        return value_at_once(ExplainedVariance(), target_values=target_values, predicted_values=predicted_values)

    def median_absolute_error(self, *, target_values: Tensor, predicted_values: Tensor) -> float:
        """Return the median distance from the target, at least 0, in the unit of the target; less is better.

        Outliers hardly change it. All values of an epoch are kept for it.
        """
        from sklearn.metrics import median_absolute_error

        target, predicted = prepare_regression(target_values, predicted_values)
        return float(median_absolute_error(target.cpu().numpy(), predicted.cpu().numpy()))

    @accumulated(lambda metrics: LargestError())
    def max_error(self, *, target_values: Tensor, predicted_values: Tensor) -> float:
        """Return the largest distance from the target, at least 0, in the unit of the target; less is better."""
        return value_at_once(LargestError(), target_values=target_values, predicted_values=predicted_values)

    @accumulated(lambda metrics: AbsolutePercentageError())
    def mean_absolute_percentage_error(self, *, target_values: Tensor, predicted_values: Tensor) -> float:
        """Return the mean of the distance divided by the target's size, at least 0; less is better.

        It is a share and no percentage: 0.1 is ten percent. As in scikit-learn, a target of 0 counts as 2.2e-16, which
        makes the value very large.
        """
        return value_at_once(AbsolutePercentageError(), target_values=target_values, predicted_values=predicted_values)

    @accumulated(lambda metrics: Correlation())
    def pearson_correlation(self, *, target_values: Tensor, predicted_values: Tensor) -> float:
        """Return Pearson's correlation of targets and predictions, from -1 to 1; more is better.

        NaN, with a UserWarning, if all targets or all predictions are equal.

        Source: https://en.wikipedia.org/wiki/Pearson_correlation_coefficient
        """
        return value_at_once(Correlation(), target_values=target_values, predicted_values=predicted_values)
