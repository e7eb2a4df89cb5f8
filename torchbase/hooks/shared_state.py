"""What forward passes change, so that each part of a mini-batch starts from the same state, on each process."""

from typing import Any, NamedTuple

from torchbase.checkpoints.forward_state import ForwardState, others_than_tensors, restore_others
from torchbase.checkpoints.network_copy import NetworkCopier
from torchbase.engine.run import Run


class Changes(NamedTuple):
    """What the first part of a mini-batch changed, on the process that computed it.

    Attributes:
        tensors: The positions of the tensors that it changed, among those of `NetworkCopier.tensors`.
        others: The rest of what it may have changed, see `others_than_tensors`.
    """

    tensors: tuple[int, ...] = ()
    others: Any = None


class StateToShare:
    """Gives each part the state from before the iteration, and the network that of the first part afterwards."""

    def __init__(self, run: Run, copier: NetworkCopier, first: int, source: int, parts: int) -> None:
        """Copies the state before the first part of this process, if it will be restored.

        Args:
            run: The run.
            copier: Of the run's network.
            first: The number of the first part that has samples, over all processes.
            source: The index of the process that computes it.
            parts: The number of parts that this process computes.
        """
        self._run, self._copier = run, copier
        self._first, self._source = first, source
        is_source, self._has_several = run.processes.index == source, parts > 1
        self._before = ForwardState(run, copier) if self._has_several or not is_source else None
        self._after: ForwardState | None = None
        self._has_computed = False
        self._versions = copier.versions() if is_source and run.processes.count > 1 else []
        self.changes = Changes()

    def before_part(self) -> None:
        """Restores the state from before the iteration, unless it is still there."""
        if self._before is not None and self._has_computed:
            self._before.restore()
        self._has_computed = True

    def after_part(self, number: int) -> None:
        """Notes the state after the first part.

        Args:
            number: The number of the part.
        """
        if number != self._first:
            return
        if self._has_several:
            self._after = ForwardState(self._run, self._copier)
        if self._run.processes.count > 1:
            pairs = zip(self._versions, self._copier.versions(), strict=True)
            changed = [position for position, (former, now) in enumerate(pairs) if former != now]
            self.changes = Changes(tuple(changed), others_than_tensors(self._run, self._copier))

    def share(self, changes: Changes) -> None:
        """Sets the state after the first part of the mini-batch, on each process.

        Args:
            changes: The changes of the first part.
        """
        if self._after is not None:
            self._after.restore()
        elif self._before is not None and self._has_computed:
            self._before.restore()
        if self._run.processes.count == 1:
            return
        if changes.tensors:
            tensors = self._copier.tensors()
            self._run.processes.tell_tensors([tensors[position] for position in changes.tensors], self._source)
        if changes.others is not None and self._run.processes.index != self._source:
            restore_others(self._run, self._copier, changes.others)
