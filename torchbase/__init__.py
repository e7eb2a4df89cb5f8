"""A minimalist base for machine-learning projects in PyTorch."""

from torchbase.data.splitting import split_iterables
from torchbase.data.validation_datasets import ValidationDatasetsDict
from torchbase.engine import Engine
from torchbase.hookspecs import hookimpl
from torchbase.metrics.base import BaseMetricsClass
from torchbase.run import Phase, Run
from torchbase.run_summary import RunSummary
from torchbase.session import TrainingBaseSession

__version__ = "0.1.0"

__all__ = [
    "BaseMetricsClass",
    "Engine",
    "Phase",
    "Run",
    "RunSummary",
    "TrainingBaseSession",
    "ValidationDatasetsDict",
    "hookimpl",
    "split_iterables",
]
