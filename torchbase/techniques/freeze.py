"""Freezes parameters."""

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.run import Run
from torchbase.engine.training_step import network_of, optimizer_of
from torchbase.intervals import Interval
from torchbase.techniques.parameter_patterns import check_is_optimized, matching_parameters


class Freeze:
    """Freezes parameters by name pattern, permanently or for the first epochs.

    For fine-tuning a pretrained network, when part of it stays fixed, or stays fixed until the new layers have trained.
    Frozen parameters get no gradient, so the optimizer skips them, including weight decay. The optimizer may hold
    them. The hook doesn't change the mode of a layer: in training a frozen layer is in training mode, so its dropout is
    on, and its buffers, such as the statistics of batch normalization, change. To prevent that, freeze in
    ``init_network`` what never trains, and call its ``eval()`` there: it then stays in evaluation mode.

    The epoch alone determines which parameters are frozen, so the hook has no state. If several of these hooks match a
    parameter, the hook that is listed last decides.

    Source: https://docs.pytorch.org/docs/stable/notes/autograd.html#locally-disabling-gradient-computation

    Example:
        >>> hook = Freeze("encoder.*", until="2ep")
    """

    def __init__(self, pattern: str, until: str | Interval | None = None) -> None:
        """Sets the parameters and the duration.

        Args:
            pattern: A pattern of parameter names, e.g. ``"encoder.*"``.
            until: The number of epochs after which the parameters train, e.g. ``"2ep"``; None freezes them permanently.

        Raises:
            IntervalError: If ``until`` isn't a number of epochs.
        """
        self.name = f"freeze {pattern}"  # unique, so that several can be registered
        self._pattern = pattern
        self._until = None if until is None else Interval.parse(until, units=("ep",))

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Checks the pattern, and that the optimizer holds parameters that will be unfrozen."""
        matching = matching_parameters(network_of(run), self._pattern)
        if self._until is not None:
            check_is_optimized(matching, optimizer_of(run))

    @hookimpl
    def on_epoch_start(self, run: Run) -> None:
        """Freezes or unfreezes the parameters for the epoch."""
        is_frozen = self._until is None or run.epoch <= self._until.count
        for parameter in matching_parameters(network_of(run), self._pattern).values():
            parameter.requires_grad_(not is_frozen)
