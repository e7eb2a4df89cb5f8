"""Re-exports the predefined metrics classes."""

from torchbase.metrics import (
    BinaryClassificationMetrics,
    ImageReconstructionMetrics,
    ImageSegmentationMetrics,
    MulticlassClassificationMetrics,
    MultilabelClassificationMetrics,
    RegressionMetrics,
    TorchMetrics,
)

__all__ = [
    "BinaryClassificationMetrics",
    "ImageReconstructionMetrics",
    "ImageSegmentationMetrics",
    "MulticlassClassificationMetrics",
    "MultilabelClassificationMetrics",
    "RegressionMetrics",
    "TorchMetrics",
]
