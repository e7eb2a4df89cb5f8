"""The length of a run and of its epochs, as the config has it."""

import logging
from typing import Any

from torchbase.data.loader import MiniBatchLoader
from torchbase.data.own_order_loader import OwnOrderLoader
from torchbase.data.streaming import StreamLoader
from torchbase.engine.phase import Phase

_logger = logging.getLogger("torchbase")


def maximum_of_epochs(num_epochs: int | None, num_iterations: int | None, loader: Any) -> int:
    """Returns the number of epochs of a run, at most.

    Args:
        num_epochs: The number of epochs in the config, or None.
        num_iterations: The number of training iterations in the config, or None. One of the two is given.
        loader: The loader of the training phase.

    Returns:
        The number in the config. Without one, the number of epochs that the iterations take, if the loader is one of
        torchbase and knows the length of all epochs; else the number of iterations, since an epoch has at least one.
    """
    if num_epochs is not None:
        return num_epochs
    # The length of another loader may be an estimate, and the run must not end before its last iteration.
    is_exact = _is_ours(loader) and not isinstance(loader, OwnOrderLoader)  # whose epochs may differ
    count = Phase("training", loader).count_mini_batches(1) if is_exact else None
    return -(-(num_iterations or 1) // (count or 1))


def warn_of_unused_iterations_per_epoch(iterations: int | None, loader: Any) -> None:
    """Warns if the config has ``iterations_per_epoch``, and the training loader is one of the user.

    Args:
        iterations: The number in the config, or None.
        loader: The training loader that ``init_dataloaders`` returned.
    """
    if iterations is not None and not _is_ours(loader):
        _logger.warning(
            "session.iterations_per_epoch is %d, but init_dataloaders returned a %s for training, so an epoch is what "
            "that returns. To fix, remove the key, or get the training loader from super().init_dataloaders().",
            iterations,
            type(loader).__name__,
        )


def _is_ours(loader: Any) -> bool:
    return isinstance(loader, MiniBatchLoader | StreamLoader)
