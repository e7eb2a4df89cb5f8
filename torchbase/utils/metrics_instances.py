"""The ready-made metrics classes, under one name."""

from torchbase.metrics import BinaryClassificationMetrics, ImageReconstructionMetrics

__all__ = ["BinaryClassificationMetrics", "ImageReconstructionMetrics"]
