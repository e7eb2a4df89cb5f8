"""Ends a run whose loss is no number any more."""

import math
from collections.abc import Sequence

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.iteration_values import IterationValues
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.errors import NonFiniteError
from torchbase.hooks.bad_mini_batches import save_bad_mini_batch


class NanGuard:
    """Raises when a loss is NaN or infinite, names the iteration in which it was so first, and keeps its mini-batch.

    Losses are looked at when a block of them is read, so up to a block's iterations may have followed; no checkpoint is
    written in between, since the block is read before one is.
    """

    @hookimpl
    def on_values_read(self, run: Run, phase: Phase, rows: Sequence[IterationValues]) -> None:
        """Looks at the losses of a block."""
        for row in rows:
            loss = row.values.get("loss", 0.0)
            if not math.isfinite(loss):
                kept = save_bad_mini_batch(run, phase, row.mini_batch, f"its loss is {loss}")
                raise NonFiniteError(
                    f"The loss is {loss} in {phase.name}: epoch {run.epoch}, iteration {row.iteration} (mini-batch "
                    f"{row.mini_batch} of the epoch). {kept} No checkpoint was written from the network since. To fix, "
                    "look for a learning rate that is too high, a division by zero or the logarithm of 0 in the loss, "
                    "and for NaN in the data; or let session.nan_policy 'skip' such mini-batches."
                )
