"""Lets parameters that were frozen learn."""

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.run import Run
from torchbase.engine.training_step import network_of, optimizer_of
from torchbase.intervals import Interval
from torchbase.techniques.parameter_patterns import check_is_optimized, parameters_that_fit


class Unfreeze:
    """Lets those parameters learn whose names fit a pattern, after some epochs, whoever froze them.

    For unfreezing a network layer by layer, from its end to its beginning: freeze all of it, and register one of these
    for each part. What is unfrozen follows from the epoch alone, so a resumed run needs no state.

    Source: Howard and Ruder, Universal Language Model Fine-tuning for Text Classification,
    https://arxiv.org/abs/1801.06146

    Example:
        >>> hook = Unfreeze("encoder.layer3.*", at="3ep")
    """

    def __init__(self, pattern: str, at: str | Interval) -> None:
        """Sets what, and when.

        Args:
            pattern: A pattern of parameter names, e.g. ``"encoder.layer3.*"``.
            at: After how many epochs, e.g. ``"3ep"``.

        Raises:
            IntervalError: If it isn't a number of epochs.
        """
        self.name = f"unfreeze {pattern}"  # so that there can be several
        self._pattern, self._at = pattern, Interval.parse(at, units=("ep",))

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Looks whether there is something to unfreeze, and whether it can learn, before training."""
        check_is_optimized(parameters_that_fit(network_of(run), self._pattern), optimizer_of(run))

    # Last, so that it has the say over hooks that freeze, wherever they are listed.
    @hookimpl(trylast=True)
    def on_epoch_start(self, run: Run) -> None:
        """Lets the parameters learn once it is time."""
        if run.epoch > self._at.count:
            for parameter in parameters_that_fit(network_of(run), self._pattern).values():
                parameter.requires_grad_(True)
