"""The ready-made metrics classes, under one name."""

from torchbase.metrics import (
    BinaryClassificationMetrics,
    ImageReconstructionMetrics,
    ImageSegmentationMetrics,
    MulticlassClassificationMetrics,
    RegressionMetrics,
    TorchMetrics,
)

__all__ = [
    "BinaryClassificationMetrics",
    "ImageReconstructionMetrics",
    "ImageSegmentationMetrics",
    "MulticlassClassificationMetrics",
    "RegressionMetrics",
    "TorchMetrics",
]
