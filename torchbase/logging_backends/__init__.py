"""Logging backends: the base classes, and a backend for each format.

For: writing what the ``log_…`` events record to TensorBoard, JSON lines, CSV, MLflow or Weights & Biases. A thread
writes beside the training, in order, and each step once, also after a run is resumed.

In: the ``log_…`` events of the engine. Out: files, or requests to a server.

Begin with `torchbase.logging_backends.base`, which describes what a backend implements;
`torchbase.logging_backends.csv_log` is the shortest backend. All backends are imported from `torchbase.hooks`; this
package exports the names that authors of a backend need.
"""

from torchbase.files.append_only import AppendOnlyFile
from torchbase.logging_backends.base import LoggingBackend
from torchbase.logging_backends.file_base import FileBackend
from torchbase.logging_backends.records import ChartLayout, Graph, Histogram, HyperParameters, Image, Scalars, Text

__all__ = [
    "AppendOnlyFile",
    "ChartLayout",
    "FileBackend",
    "Graph",
    "Histogram",
    "HyperParameters",
    "Image",
    "LoggingBackend",
    "Scalars",
    "Text",
]
