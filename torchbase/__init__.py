"""A minimalist base for machine-learning projects in PyTorch.

The public names are imported on first access: the command ``torchbase`` lies in this package, and runs without torch.
"""

import importlib
import typing

if typing.TYPE_CHECKING:
    from torchbase.data.splitting import split_iterables
    from torchbase.data.validation_datasets import ValidationDatasetsDict
    from torchbase.distributed.processes import Processes
    from torchbase.engine.hookspecs import hookimpl
    from torchbase.engine.iteration_values import IterationValues
    from torchbase.engine.loop import Engine
    from torchbase.engine.observed_calls import CallObserver
    from torchbase.engine.phase import Phase, Progress
    from torchbase.engine.run import BestLoss, Run
    from torchbase.engine.training_step import TrainingStep
    from torchbase.intervals import Interval
    from torchbase.metrics.base import BaseMetricsClass
    from torchbase.randomness.run_randomness import Randomness
    from torchbase.randomness.streams import isolate_rng
    from torchbase.run_directory.config import Config, validate_config
    from torchbase.run_directory.directory import RunDirectory
    from torchbase.run_directory.session_config import SessionConfig
    from torchbase.session.base import TrainingBaseSession
    from torchbase.session.summary import RunSummary

__version__ = "0.1.0"

__all__ = [
    "BaseMetricsClass",
    "BestLoss",
    "CallObserver",
    "Config",
    "Engine",
    "Interval",
    "IterationValues",
    "Phase",
    "Processes",
    "Progress",
    "Randomness",
    "Run",
    "RunDirectory",
    "RunSummary",
    "SessionConfig",
    "TrainingBaseSession",
    "TrainingStep",
    "ValidationDatasetsDict",
    "hookimpl",
    "isolate_rng",
    "split_iterables",
    "validate_config",
]

_MODULES = {
    "BaseMetricsClass": "metrics.base",
    "BestLoss": "engine.run",
    "CallObserver": "engine.observed_calls",
    "Config": "run_directory.config",
    "Engine": "engine.loop",
    "Interval": "intervals",
    "IterationValues": "engine.iteration_values",
    "Phase": "engine.phase",
    "Processes": "distributed.processes",
    "Progress": "engine.phase",
    "Randomness": "randomness.run_randomness",
    "Run": "engine.run",
    "RunDirectory": "run_directory.directory",
    "RunSummary": "session.summary",
    "SessionConfig": "run_directory.session_config",
    "TrainingBaseSession": "session.base",
    "TrainingStep": "engine.training_step",
    "ValidationDatasetsDict": "data.validation_datasets",
    "hookimpl": "engine.hookspecs",
    "isolate_rng": "randomness.streams",
    "split_iterables": "data.splitting",
    "validate_config": "run_directory.config",
}


if not typing.TYPE_CHECKING:  # else a checker would take any name for a public one

    def __getattr__(name: str) -> typing.Any:
        """Imports a public name; see PEP 562."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = value  # imported once
        return value


def __dir__() -> list[str]:
    """Returns all names, also those that are not imported yet."""
    return sorted({*globals(), *__all__})
