"""Stops a run whose loss is NaN or infinite."""

import math
from collections.abc import Sequence
from itertools import product

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.iteration_values import IterationValues
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.engine.turn_taking import names_of_losses
from torchbase.errors import NonFiniteError
from torchbase.hooks.bad_mini_batches import save_bad_mini_batch
from torchbase.metrics.selection import NAME_OF_THE_LOSS


class NanGuard:
    """Raises an error when a loss is NaN or infinite, and saves the mini-batch.

    The error names the first such iteration. Losses are checked when a block of values is read, so the iterations of
    up to one block may follow before the error. No checkpoint is written in between, because the block is read before
    each checkpoint.
    """

    @hookimpl
    def on_values_read(self, run: Run, phase: Phase, rows: Sequence[IterationValues]) -> None:
        """Checks the losses of a block."""
        names = names_of_losses(run) if phase.is_training else (NAME_OF_THE_LOSS,)
        for row, name in product(rows, names):
            loss = row.values.get(name, 0.0)
            if not math.isfinite(loss):
                saved = save_bad_mini_batch(run, phase, row.mini_batch, f"its {name} is {loss}")
                raise NonFiniteError(
                    f"The {name} is {loss} in {phase.name}: epoch {run.epoch}, iteration {row.iteration} (mini-batch "
                    f"{row.mini_batch} of the epoch). {saved} No checkpoint has been written since. To fix, check for "
                    "a learning rate that is too high, a division by zero or the logarithm of 0 in the loss, and NaN "
                    "in the data; or set session.nan_policy to 'skip' to skip such mini-batches."
                )
