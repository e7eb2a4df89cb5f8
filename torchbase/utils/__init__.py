"""The parts that a project builds its data and metrics from, under one name.

This room defines nothing: it re-exports names of ``data`` and ``metrics``. The ready-made families of metrics are
in `torchbase.utils.metrics_instances`.
"""

from torchbase.data.checking import check_columns
from torchbase.data.splitting import split_iterables, split_to_train_valid_test
from torchbase.data.typed_dict import TypedDict, TypedDictIterable
from torchbase.data.validation_datasets import ValidationDatasetsDict
from torchbase.metrics import BaseMetricsClass

__all__ = [
    "BaseMetricsClass",
    "TypedDict",
    "TypedDictIterable",
    "ValidationDatasetsDict",
    "check_columns",
    "split_iterables",
    "split_to_train_valid_test",
]
