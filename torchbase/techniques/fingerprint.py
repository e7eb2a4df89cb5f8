"""Records hashes of the state of a run, by which two runs are compared bit by bit."""

import logging

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.intervals import Interval
from torchbase.run_directory.fingerprints import After
from torchbase.techniques.fingerprint_writer import FingerprintWriter

logger = logging.getLogger("torchbase")


class Fingerprint:
    """Records hashes of the network, the optimizer and the random streams at regular intervals.

    ``torchbase compare`` reads them: it says until which iteration two runs have the same bits, and which tensors
    differ first. Each fingerprint is a line of ``fingerprints.jsonl`` in the run directory. The state at the start and
    at the end of the run has one, too.

    The training waits only for a copy of the state, as at a checkpoint. A thread hashes the copy. If the network is
    sharded, the training waits until all of it is gathered and hashed, a tensor at a time. The fingerprints are the
    same for any number of processes with the same ``mini_batch_parts``, and for a run that was stopped or killed and
    resumed. A warning names the first iteration that runs again after a resume and has other bits than before.

    Example:
        >>> hook = Fingerprint(every="100it")
    """

    def __init__(self, every: str | Interval = "100it") -> None:
        """Sets the interval.

        Args:
            every: The interval in training iterations (``"100it"``) or epochs (``"1ep"``).

        Raises:
            IntervalError: If the interval is in neither.
        """
        self._every = Interval.parse(every, units=("it", "ep"))
        self._writer: FingerprintWriter | None = None

    # Last, after the other hooks have restored and changed the network.
    @hookimpl(trylast=True)
    def on_run_start(self, run: Run) -> None:
        """Removes the fingerprints that a resumed run records again, and records the state at the start."""
        if run.run_directory is None and run.processes.is_main:
            logger.warning("Fingerprint records nothing, since this run has no run directory.")
        self._writer = FingerprintWriter(run)
        # Of a resumed run it is there, unless this hook is new in the run or is called after Checkpoint.
        after = self._due_at_start(run)
        if after is not None:
            self._writer.record(run, after)

    @hookimpl
    def on_phase_start(self) -> None:
        """Waits for the threads before workers may be forked: a lock that they hold would stay locked in them."""
        if self._writer is not None:
            self._writer.join()

    # Last, so that the fingerprint includes the effects of the other hooks.
    @hookimpl(trylast=True)
    def on_iteration_end(self, run: Run, phase: Phase) -> None:
        """Records the state after an iteration if it is due."""
        if phase.is_training and self._every.is_due_after(iterations=phase.progress.iterations):
            self._record(run, "iteration")

    @hookimpl(trylast=True)
    def on_epoch_end(self, run: Run) -> None:
        """Records the state after an epoch if it is due."""
        if self._every.is_due_after(epochs=run.epochs_done):
            self._record(run, "epoch")

    @hookimpl(trylast=True)
    def on_run_end(self, run: Run) -> None:
        """Records the state at the end, waits until it is on the disk, and logs its hash."""
        self._record(run, "run")
        if self._writer is not None:
            self._writer.finish()
            if self._writer.last is not None:
                logger.info("The bits after iteration %s: %s", f"{run.progress.iterations:,}", self._writer.last.bits)

    def _due_at_start(self, run: Run) -> After | None:
        iterations, epochs = run.progress.iterations, run.epochs_done
        if iterations == 0:
            return "start"
        if run.epoch == epochs:
            return "epoch" if self._every.is_due_after(epochs=epochs) else None
        # After the last iteration of an epoch, hooks may have changed the state since.
        is_due = not run.progress.is_done and self._every.is_due_after(iterations=iterations)
        return "iteration" if is_due else None

    def _record(self, run: Run, after: After) -> None:
        if self._writer is not None:
            self._writer.record(run, after)
