"""The errors that torchbase raises, so that a caller can catch one kind or all of them.

TorchbaseError
├── ConfigError (ValueError)          the config dictionary
├── DataError (ValueError)            datasets, mini-batches and how they are read
├── StepError (ValueError)            what forward_pass and loss_function returned
├── MetricsError (ValueError)         the choice of metrics, before training
├── HookError (ValueError)            a slip in registering a hook, or in what it returned
├── NonFiniteError (ArithmeticError)
└── RunDirectoryError (OSError)       what is kept of a run
    ├── RunDirectoryLockedError       another process writes it
    └── CheckpointError               no checkpoint to load, or a damaged one
"""


class TorchbaseError(Exception):
    """The base of every error that torchbase raises itself."""


class ConfigError(TorchbaseError, ValueError):
    """The config dictionary is wrong, or differs from the run that it is to continue."""


class DataError(TorchbaseError, ValueError):
    """A dataset, a split or a mini-batch is not what it has to be."""


class StepError(TorchbaseError, ValueError):
    """``forward_pass`` or ``loss_function`` returned what one iteration can't use."""


class MetricsError(TorchbaseError, ValueError):
    """The metrics that the config asks for can't be computed."""


class HookError(TorchbaseError, ValueError):
    """A hook was registered wrongly, or returned what its event can't use."""


class NonFiniteError(TorchbaseError, ArithmeticError):
    """The loss of a mini-batch, or a parameter of the network, is NaN or infinite."""


class RunDirectoryError(TorchbaseError, OSError):
    """A run directory can't be made, found, read or written."""


class RunDirectoryLockedError(RunDirectoryError):
    """Another session writes this run directory."""


class CheckpointError(RunDirectoryError):
    """There is no whole checkpoint, or one is damaged."""
