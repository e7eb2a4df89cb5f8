"""The hooks, one file each: those that a session registers by itself, and those that it may be given."""

from torchbase.hooks.best_validation import BestValidation
from torchbase.hooks.charts import Charts
from torchbase.hooks.checkpoint import Checkpoint
from torchbase.hooks.config_snapshot import ConfigSnapshot
from torchbase.hooks.console import Console
from torchbase.hooks.csv_log import CsvLog
from torchbase.hooks.deterministic_algorithms import DeterministicAlgorithms
from torchbase.hooks.interruption import Interruption
from torchbase.hooks.json_lines import JsonLines
from torchbase.hooks.log_values import LogValues
from torchbase.hooks.metric_averages import MetricAverages
from torchbase.hooks.metrics import Metrics
from torchbase.hooks.mlflow import MLflow
from torchbase.hooks.nan_guard import NanGuard
from torchbase.hooks.nan_skip import NanSkip
from torchbase.hooks.network_graph import NetworkGraph
from torchbase.hooks.rehearsal import Rehearsal
from torchbase.hooks.seed_capture import SeedCapture
from torchbase.hooks.tensorboard import TensorBoard
from torchbase.hooks.wandb import Wandb

__all__ = [
    "BestValidation",
    "Charts",
    "Checkpoint",
    "ConfigSnapshot",
    "Console",
    "CsvLog",
    "DeterministicAlgorithms",
    "Interruption",
    "JsonLines",
    "LogValues",
    "MLflow",
    "MetricAverages",
    "Metrics",
    "NanGuard",
    "NanSkip",
    "NetworkGraph",
    "Rehearsal",
    "SeedCapture",
    "TensorBoard",
    "Wandb",
]
