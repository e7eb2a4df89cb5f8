"""Checks what a sharded network needs, and lets all processes abandon an iteration together."""

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from torchbase.engine.abandoned import IterationAbandonedError
from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.engine.training_step import network_of, optimizer_of
from torchbase.errors import HookError
from torchbase.sharding.exactness import mixed_tensors_explained, optimizer_explained, warn_of_rounding

if TYPE_CHECKING:
    from torchbase.sharding.trial import TrialOfUnits

UNSUITABLE = {
    "retry_on_out_of_memory": "one process can't repeat a forward pass for which the others don't gather parameters. "
    "To fix, use more parts (session.mini_batch_parts), which are smaller",
    "network_graph": "it traces the network on one process. To fix, log the graph in a run of one process",
}


class ShardedTraining:
    """Completes `MiniBatchParts` for a network that is sharded over several processes.

    Before training it refuses hooks that can't work with shards, says what keeps the result from having the bits of
    one process, and finds forward passes that would lose what they change. In training, an iteration that one process
    abandons before the backward pass is abandoned by all, since they communicate in it.

    The session registers it for ``session.distributed = "shard"`` under several processes.
    """

    def __init__(self) -> None:
        self._can_be_abandoned = False
        self._trial: TrialOfUnits | None = None

    @property
    def unused_events(self) -> frozenset[str]:
        """The events that may not fire: it explains their errors only."""
        return frozenset({"on_loss_computed", "run_forward", "run_optimizer_step"})

    # Before the rehearsal, whose forward passes are watched.
    @hookimpl(tryfirst=True)
    def on_run_start(self, run: Run) -> None:
        """Checks the hooks and the optimizer, and begins to watch the units of the network."""
        from torchbase.sharding.trial import TrialOfUnits  # imports FSDP2, which most runs don't need

        for name, reason in UNSUITABLE.items():
            if name in run.hooks:
                raise HookError(f"The hook '{name}' can't be used with session.distributed = 'shard': {reason}.")
        self._can_be_abandoned = "nan_skip" in run.hooks
        warn_of_rounding(optimizer_of(run), run.processes.count, run.device, is_mixed="mixed_precision" in run.hooks)
        self._trial = TrialOfUnits(network_of(run))

    @hookimpl
    def on_epoch_start(self) -> None:
        """Ends the watch after the rehearsal."""
        self._end_trial()

    @hookimpl
    def on_exception(self) -> None:
        """Ends the watch."""
        self._end_trial()

    @hookimpl
    def on_run_end(self) -> None:
        """Ends the watch of a run that had nothing to train."""
        self._end_trial()

    # First, so that this wrapper is outside of all hooks that may abandon the iteration.
    @hookimpl(wrapper=True, tryfirst=True)
    def on_loss_computed(self, run: Run, phase: Phase) -> Generator[None, Any, Any]:
        """Lets all processes abandon an iteration that one of them abandons."""
        if not phase.is_training or not self._can_be_abandoned:
            return (yield)
        reason = None
        try:
            result = yield
        except IterationAbandonedError as error:
            result, reason = None, str(error)
        for one in run.processes.gather(reason, "the decision to abandon an iteration"):
            if one is not None:
                raise IterationAbandonedError(one)
        return result

    @hookimpl(wrapper=True)
    def run_forward(self) -> Generator[None, Any, Any]:
        """Explains an error of a forward pass that uses a parameter outside of a call of the network."""
        with mixed_tensors_explained():
            return (yield)

    @hookimpl(wrapper=True)
    def run_optimizer_step(self, run: Run) -> Generator[None, Any, Any]:
        """Explains an error of an optimizer that can't compute with shards."""
        with optimizer_explained(optimizer_of(run)):
            return (yield)

    def _end_trial(self) -> None:
        if self._trial is not None:
            self._trial.end()
            self._trial = None
