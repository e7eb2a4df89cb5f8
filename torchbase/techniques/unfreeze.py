"""Unfreezes parameters."""

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.run import Run
from torchbase.engine.training_step import network_of, optimizer_of
from torchbase.intervals import Interval
from torchbase.techniques.parameter_patterns import check_is_optimized, matching_parameters


class Unfreeze:
    """Unfreezes parameters by name pattern after a number of epochs.

    For gradual unfreezing, from the last layer to the first: freeze the whole network, and register an `Unfreeze`
    for each part. The hook takes precedence over `Freeze`. The epoch alone determines which parameters are unfrozen, so
    the hook has no state. A module that was in evaluation mode because it was frozen is in training mode from then on.

    Source: Howard and Ruder, Universal Language Model Fine-tuning for Text Classification,
    https://arxiv.org/abs/1801.06146

    Example:
        >>> hook = Unfreeze("encoder.layer3.*", at="3ep")
    """

    def __init__(self, pattern: str, at: str | Interval) -> None:
        """Sets the parameters and the epoch.

        Args:
            pattern: A pattern of parameter names, e.g. ``"encoder.layer3.*"``.
            at: The number of epochs after which the parameters train, e.g. ``"3ep"``.

        Raises:
            IntervalError: If ``at`` isn't a number of epochs.
        """
        self.name = f"unfreeze {pattern}"  # unique, so that several can be registered
        self._pattern, self._at = pattern, Interval.parse(at, units=("ep",))

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Checks the pattern, and that the optimizer holds the parameters."""
        check_is_optimized(matching_parameters(network_of(run), self._pattern), optimizer_of(run))

    # Last, so that it overrides hooks that freeze, in any order of registration.
    @hookimpl(trylast=True)
    def on_epoch_start(self, run: Run) -> None:
        """Unfreezes the parameters from the set epoch on."""
        if run.epoch > self._at.count:
            for parameter in matching_parameters(network_of(run), self._pattern).values():
                parameter.requires_grad_(True)
