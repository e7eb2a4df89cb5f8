"""Metrics of what ``forward_pass`` returns: a base class for one's own, and two ready-made families."""

from torchbase.metrics.base import BaseMetricsClass
from torchbase.metrics.binary_classification import BinaryClassificationMetrics
from torchbase.metrics.image_reconstruction import ImageReconstructionMetrics

__all__ = ["BaseMetricsClass", "BinaryClassificationMetrics", "ImageReconstructionMetrics"]
