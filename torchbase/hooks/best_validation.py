"""Keeps the network that did best on the validation sets."""

import logging
import math
from functools import partial

from torchbase.durable_files import write_tensors
from torchbase.errors import HookError, RunDirectoryError
from torchbase.hookspecs import hookimpl
from torchbase.host_copies import HostCopies
from torchbase.run import BestLoss, Phase, Run
from torchbase.run_directory import NETWORK_FILE
from torchbase.training_step import network_of

logger = logging.getLogger("torchbase")

WRITE_NAME = "best network"


class BestValidation:
    """Keeps the network in ``network.pth`` when every voting set has its lowest loss so far in the same epoch.

    A set that is only for demo has no vote. Where none has one, the network of the last epoch is kept.

    The training waits only for a copy of the network in memory; a thread writes it, before any later checkpoint.
    """

    def __init__(self) -> None:
        self._copies = HostCopies()

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Says so where no set votes."""
        if not any(phase.votes for phase in run.validation):
            logger.warning(
                "No validation set votes on the best network, so %s will hold that of the last epoch. To change that, "
                "give init_datasets a validation set that is not only for demo.",
                NETWORK_FILE,
            )

    @hookimpl
    def on_phase_end(self, run: Run, phase: Phase) -> None:
        """Notes the lowest loss of a validation set."""
        if phase.is_training:
            return
        loss = phase.averages.get("loss")
        if loss is None:
            raise HookError(
                f"{phase.name} has no average named 'loss', and the best network is chosen by it. To fix, register "
                "MetricAverages before BestValidation, or unregister('best_validation')."
            )
        best = run.best_losses.get(phase.name)
        if best is None or loss < best.loss or math.isnan(best.loss):
            run.best_losses[phase.name] = BestLoss(loss, run.epoch)

    @hookimpl
    def is_best_epoch(self, run: Run) -> bool:
        """Counts the votes."""
        return all(run.best_losses[phase.name].epoch == run.epoch for phase in run.validation if phase.votes)

    @hookimpl
    def on_best_epoch(self, run: Run) -> None:
        """Keeps the network."""
        if run.run_directory is not None:
            writes = run.run_directory.writes
            writes.wait(WRITE_NAME)  # before its copies are overwritten
            network = self._copies.of(network_of(run).state_dict())
            writes.submit(WRITE_NAME, partial(write_tensors, run.run_directory.file(NETWORK_FILE), network))

    @hookimpl
    def on_run_end(self, run: Run) -> None:
        """Waits until the network is on the disk."""
        if run.run_directory is not None:
            run.run_directory.writes.wait(WRITE_NAME)

    @hookimpl
    def on_exception(self, run: Run, error: BaseException) -> None:
        """Waits until the network is on the disk."""
        if run.run_directory is not None and isinstance(error, Exception):
            try:
                run.run_directory.writes.wait(WRITE_NAME)
            except RunDirectoryError as second:
                error.add_note(f"the best network could not be written: {second}")
