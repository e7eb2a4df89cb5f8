"""The public namespace of all hooks, and the modules of the default hooks, one hook per file.

For: seeds, config snapshot, rehearsal, metrics, averages, the best network, interruption, charts, console, record,
checkpoints. Optional hooks are in ``techniques``, logging backends in ``logging_backends``. Users import all hooks
from here.

In: the events of the engine. Out: files in the run directory, lines in the terminal, values on the `Run`. No hook
imports another hook.

Begin with ``default_hooks()`` in `torchbase.session.base`, which lists these hooks in order;
`torchbase.hooks.nan_guard` is the shortest hook.
"""

from torchbase.hooks.best_validation import BestValidation
from torchbase.hooks.charts import Charts
from torchbase.hooks.checkpoint import Checkpoint
from torchbase.hooks.config_snapshot import ConfigSnapshot
from torchbase.hooks.console import Console
from torchbase.hooks.deterministic_algorithms import DeterministicAlgorithms
from torchbase.hooks.interruption import Interruption
from torchbase.hooks.log_values import LogValues
from torchbase.hooks.metric_averages import MetricAverages
from torchbase.hooks.metrics import Metrics
from torchbase.hooks.mini_batch_parts import MiniBatchParts
from torchbase.hooks.nan_guard import NanGuard
from torchbase.hooks.nan_skip import NanSkip
from torchbase.hooks.network_summary import NetworkSummary
from torchbase.hooks.process_errors import ProcessErrors
from torchbase.hooks.rehearsal import Rehearsal
from torchbase.hooks.run_record import RunRecord
from torchbase.hooks.seed_capture import SeedCapture
from torchbase.hooks.sharded_training import ShardedTraining
from torchbase.hooks.uncalled_hooks import UncalledHooks
from torchbase.logging_backends.csv_log import CsvLog
from torchbase.logging_backends.json_lines import JsonLines
from torchbase.logging_backends.mlflow import MLflow
from torchbase.logging_backends.tensorboard import TensorBoard
from torchbase.logging_backends.wandb import Wandb
from torchbase.techniques.activation_checkpointing import ActivationCheckpointing
from torchbase.techniques.closure_step import ClosureStep
from torchbase.techniques.compile import Compile
from torchbase.techniques.early_stopping import EarlyStopping
from torchbase.techniques.exponential_moving_average import ExponentialMovingAverage
from torchbase.techniques.fingerprint import Fingerprint
from torchbase.techniques.freeze import Freeze
from torchbase.techniques.gradient_accumulation import GradientAccumulation
from torchbase.techniques.gradient_clipping import GradientClipping
from torchbase.techniques.hook_times import HookTimes
from torchbase.techniques.keep_best import KeepBest
from torchbase.techniques.learning_rate_schedule import LearningRateSchedule
from torchbase.techniques.log_gradients import LogGradients
from torchbase.techniques.log_samples import LogSamples
from torchbase.techniques.log_weights import LogWeights
from torchbase.techniques.memory_monitor import MemoryMonitor
from torchbase.techniques.mixed_precision import MixedPrecision
from torchbase.techniques.network_graph import NetworkGraph
from torchbase.techniques.profile import Profile
from torchbase.techniques.pruning import Pruning
from torchbase.techniques.retry_on_out_of_memory import RetryOnOutOfMemory
from torchbase.techniques.sharpness_aware_minimization import SharpnessAwareMinimization
from torchbase.techniques.throughput import Throughput
from torchbase.techniques.time_limit import TimeLimit
from torchbase.techniques.unfreeze import Unfreeze

__all__ = [
    "ActivationCheckpointing",
    "BestValidation",
    "Charts",
    "Checkpoint",
    "ClosureStep",
    "Compile",
    "ConfigSnapshot",
    "Console",
    "CsvLog",
    "DeterministicAlgorithms",
    "EarlyStopping",
    "ExponentialMovingAverage",
    "Fingerprint",
    "Freeze",
    "GradientAccumulation",
    "GradientClipping",
    "HookTimes",
    "Interruption",
    "JsonLines",
    "KeepBest",
    "LearningRateSchedule",
    "LogGradients",
    "LogSamples",
    "LogValues",
    "LogWeights",
    "MLflow",
    "MemoryMonitor",
    "MetricAverages",
    "Metrics",
    "MiniBatchParts",
    "MixedPrecision",
    "NanGuard",
    "NanSkip",
    "NetworkGraph",
    "NetworkSummary",
    "ProcessErrors",
    "Profile",
    "Pruning",
    "Rehearsal",
    "RetryOnOutOfMemory",
    "RunRecord",
    "SeedCapture",
    "ShardedTraining",
    "SharpnessAwareMinimization",
    "TensorBoard",
    "Throughput",
    "TimeLimit",
    "UncalledHooks",
    "Unfreeze",
    "Wandb",
]
