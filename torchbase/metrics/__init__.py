"""Metrics of what ``forward_pass`` returns: a base class for one's own, and ready-made families."""

from torchbase.metrics.base import BaseMetricsClass
from torchbase.metrics.binary_classification import BinaryClassificationMetrics
from torchbase.metrics.image_reconstruction import ImageReconstructionMetrics
from torchbase.metrics.image_segmentation import ImageSegmentationMetrics
from torchbase.metrics.multiclass_classification import MulticlassClassificationMetrics
from torchbase.metrics.regression import RegressionMetrics
from torchbase.metrics.torch_metrics import TorchMetrics

__all__ = [
    "BaseMetricsClass",
    "BinaryClassificationMetrics",
    "ImageReconstructionMetrics",
    "ImageSegmentationMetrics",
    "MulticlassClassificationMetrics",
    "RegressionMetrics",
    "TorchMetrics",
]
