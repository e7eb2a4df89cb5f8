"""The hooks, one file each: those that a session registers by itself, and those that it may be given."""

from torchbase.hooks.best_validation import BestValidation
from torchbase.hooks.charts import Charts
from torchbase.hooks.checkpoint import Checkpoint
from torchbase.hooks.compile import Compile
from torchbase.hooks.config_snapshot import ConfigSnapshot
from torchbase.hooks.console import Console
from torchbase.hooks.csv_log import CsvLog
from torchbase.hooks.deterministic_algorithms import DeterministicAlgorithms
from torchbase.hooks.early_stopping import EarlyStopping
from torchbase.hooks.exponential_moving_average import ExponentialMovingAverage
from torchbase.hooks.freeze import Freeze
from torchbase.hooks.gradient_accumulation import GradientAccumulation
from torchbase.hooks.gradient_clipping import GradientClipping
from torchbase.hooks.hook_times import HookTimes
from torchbase.hooks.interruption import Interruption
from torchbase.hooks.json_lines import JsonLines
from torchbase.hooks.learning_rate_schedule import LearningRateSchedule
from torchbase.hooks.log_gradients import LogGradients
from torchbase.hooks.log_samples import LogSamples
from torchbase.hooks.log_values import LogValues
from torchbase.hooks.log_weights import LogWeights
from torchbase.hooks.metric_averages import MetricAverages
from torchbase.hooks.metrics import Metrics
from torchbase.hooks.mixed_precision import MixedPrecision
from torchbase.hooks.mlflow import MLflow
from torchbase.hooks.nan_guard import NanGuard
from torchbase.hooks.nan_skip import NanSkip
from torchbase.hooks.network_graph import NetworkGraph
from torchbase.hooks.profile import Profile
from torchbase.hooks.rehearsal import Rehearsal
from torchbase.hooks.retry_on_out_of_memory import RetryOnOutOfMemory
from torchbase.hooks.run_record import RunRecord
from torchbase.hooks.seed_capture import SeedCapture
from torchbase.hooks.tensorboard import TensorBoard
from torchbase.hooks.time_limit import TimeLimit
from torchbase.hooks.unfreeze import Unfreeze
from torchbase.hooks.wandb import Wandb

__all__ = [
    "BestValidation",
    "Charts",
    "Checkpoint",
    "Compile",
    "ConfigSnapshot",
    "Console",
    "CsvLog",
    "DeterministicAlgorithms",
    "EarlyStopping",
    "ExponentialMovingAverage",
    "Freeze",
    "GradientAccumulation",
    "GradientClipping",
    "HookTimes",
    "Interruption",
    "JsonLines",
    "LearningRateSchedule",
    "LogGradients",
    "LogSamples",
    "LogValues",
    "LogWeights",
    "MLflow",
    "MetricAverages",
    "Metrics",
    "MixedPrecision",
    "NanGuard",
    "NanSkip",
    "NetworkGraph",
    "Profile",
    "Rehearsal",
    "RetryOnOutOfMemory",
    "RunRecord",
    "SeedCapture",
    "TensorBoard",
    "TimeLimit",
    "Unfreeze",
    "Wandb",
]
