"""Where logged values go: the base class of logging backends, and each backend.

For: taking what the ``log_…`` events record, and writing it in a thread beside the training, in order, once per
step, also after a resumed run; TensorBoard, JSON lines, CSV, MLflow and Weights & Biases.

In: the ``log_…`` events of the engine. Out: files, or requests to a server.

Begin with `torchbase.logging_backends.base`, which says what a backend implements;
`torchbase.logging_backends.csv_log` is the shortest one. All backends are imported from `torchbase.hooks`; this
package gives the names that authors of a backend need.
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
