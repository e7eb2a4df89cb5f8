"""Re-exports the classes and functions for data and metrics, and the functions that read or export a finished run.

This package defines nothing. The predefined metrics classes are in `torchbase.utils.metrics_instances`.
"""

from torchbase.checkpoints.listing import list_checkpoints
from torchbase.checkpoints.storage import Checkpoint, read_checkpoint
from torchbase.checkpoints.verification import Finding, Replay, Verification, verify_run
from torchbase.data.checking import check_columns
from torchbase.data.padding import pad
from torchbase.data.ready_orders import ClassesOrder, LengthOrder, WeightedOrder
from torchbase.data.splitting import split_iterables, split_to_train_valid_test
from torchbase.data.typed_dict import TypedDict, TypedDictIterable
from torchbase.data.validation_datasets import ValidationDatasetsDict
from torchbase.data.windows import RandomCrops, Windows
from torchbase.export.exporting import ExportedNetwork, export_network
from torchbase.metrics import BaseMetricsClass
from torchbase.run_directory.best_networks import BestNetworks, SavedBest, read_best_networks
from torchbase.run_directory.record import Epoch, read_epochs, read_status
from torchbase.run_directory.status import Best, Status
from torchbase.run_directory.value_ranges import ValueRange

__all__ = [
    "BaseMetricsClass",
    "Best",
    "BestNetworks",
    "Checkpoint",
    "ClassesOrder",
    "Epoch",
    "ExportedNetwork",
    "Finding",
    "LengthOrder",
    "RandomCrops",
    "Replay",
    "SavedBest",
    "Status",
    "TypedDict",
    "TypedDictIterable",
    "ValidationDatasetsDict",
    "ValueRange",
    "Verification",
    "WeightedOrder",
    "Windows",
    "check_columns",
    "export_network",
    "list_checkpoints",
    "pad",
    "read_best_networks",
    "read_checkpoint",
    "read_epochs",
    "read_status",
    "split_iterables",
    "split_to_train_valid_test",
    "verify_run",
]
