"""Metrics of the outputs of ``forward_pass``: a base class for custom metrics, and predefined families of metrics.

For: selecting the metrics that the config names; mapping the keys of outputs to arguments of metrics; values of a
mini-batch; values of an epoch over all samples, as a mean, or from a state.

In: the outputs of mini-batches. Out: numbers and figures by name. Nothing here knows of runs;
`torchbase.hooks.metrics` calls this package.

Begin with `torchbase.metrics.base`. Then read `torchbase.metrics.regression`, the shortest family, and
`torchbase.metrics.selection`, which computes the chosen metrics.
"""

from torchbase.metrics.base import BaseMetricsClass
from torchbase.metrics.binary_classification import BinaryClassificationMetrics
from torchbase.metrics.directions import higher_is_better, lower_is_better
from torchbase.metrics.epoch_kinds import EpochState, accumulated, figure_over_samples, mean_over_samples
from torchbase.metrics.image_reconstruction import ImageReconstructionMetrics
from torchbase.metrics.image_segmentation import ImageSegmentationMetrics
from torchbase.metrics.multiclass_classification import MulticlassClassificationMetrics
from torchbase.metrics.multilabel_classification import MultilabelClassificationMetrics
from torchbase.metrics.regression import RegressionMetrics
from torchbase.metrics.torch_metrics import TorchMetrics
from torchbase.metrics.values_at_once import several_values

__all__ = [
    "BaseMetricsClass",
    "BinaryClassificationMetrics",
    "EpochState",
    "ImageReconstructionMetrics",
    "ImageSegmentationMetrics",
    "MulticlassClassificationMetrics",
    "MultilabelClassificationMetrics",
    "RegressionMetrics",
    "TorchMetrics",
    "accumulated",
    "figure_over_samples",
    "higher_is_better",
    "lower_is_better",
    "mean_over_samples",
    "several_values",
]
