"""A minimalist base for machine-learning projects in PyTorch.

The public names are imported when they are first asked for: the command ``torchbase`` lies in this package, and answers
without torch.
"""

import importlib
import typing

if typing.TYPE_CHECKING:
    from torchbase.data.splitting import split_iterables
    from torchbase.data.validation_datasets import ValidationDatasetsDict
    from torchbase.engine.hookspecs import hookimpl
    from torchbase.engine.loop import Engine
    from torchbase.engine.phase import Phase
    from torchbase.engine.run import Run
    from torchbase.metrics.base import BaseMetricsClass
    from torchbase.session.base import TrainingBaseSession
    from torchbase.session.summary import RunSummary

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

_MODULES = {
    "BaseMetricsClass": "metrics.base",
    "Engine": "engine.loop",
    "Phase": "engine.phase",
    "Run": "engine.run",
    "RunSummary": "session.summary",
    "TrainingBaseSession": "session.base",
    "ValidationDatasetsDict": "data.validation_datasets",
    "hookimpl": "engine.hookspecs",
    "split_iterables": "data.splitting",
}


if not typing.TYPE_CHECKING:  # else a checker would take any name for a public one

    def __getattr__(name: str) -> typing.Any:
        """Imports a public name; see PEP 562."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = value  # asked for once
        return value


def __dir__() -> list[str]:
    """Gives the names that there are, also those that weren't asked for yet."""
    return sorted({*globals(), *__all__})
