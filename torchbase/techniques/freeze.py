"""Keeps some parameters as they are."""

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.run import Run
from torchbase.engine.training_step import network_of, optimizer_of
from torchbase.intervals import Interval
from torchbase.techniques.parameter_patterns import check_is_optimized, parameters_that_fit


class Freeze:
    """Keeps those parameters as they are whose names fit a pattern, from the beginning, for good or for some epochs.

    For a network that begins with weights learnt elsewhere, of which a part is to stay, or is to stay until the new
    part has learnt something. They get no gradient, so the optimizer passes them over, weight decay included. Buffers,
    such as the statistics of batch normalization, aren't parameters and still change. The optimizer may well hold them.

    What is frozen follows from the epoch alone, so a resumed run needs no state. Where two of these fit the same
    parameter, the one that is listed last decides.

    Source: https://docs.pytorch.org/docs/stable/notes/autograd.html#locally-disabling-gradient-computation

    Example:
        >>> hook = Freeze("encoder.*", until="2ep")
    """

    def __init__(self, pattern: str, until: str | Interval | None = None) -> None:
        """Sets what, and for how long.

        Args:
            pattern: A pattern of parameter names, e.g. ``"encoder.*"``.
            until: After how many epochs they learn like the others, e.g. ``"2ep"``; None for never.

        Raises:
            IntervalError: If it isn't a number of epochs.
        """
        self.name = f"freeze {pattern}"  # so that there can be several
        self._pattern = pattern
        self._until = None if until is None else Interval.parse(until, units=("ep",))

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Looks whether there is something to freeze, before training."""
        fitting = parameters_that_fit(network_of(run), self._pattern)
        if self._until is not None:
            check_is_optimized(fitting, optimizer_of(run))

    @hookimpl
    def on_epoch_start(self, run: Run) -> None:
        """Freezes the parameters for the epoch, or lets them learn."""
        is_frozen = self._until is None or run.epoch <= self._until.count
        for parameter in parameters_that_fit(network_of(run), self._pattern).values():
            parameter.requires_grad_(not is_frozen)
