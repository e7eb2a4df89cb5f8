"""Saves the network with the best validation results."""

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from torchbase.checkpoints.distributed_tensors import distributed_parameter
from torchbase.checkpoints.whole_network import whole_network
from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.monitoring import Monitor
from torchbase.engine.phase import Phase
from torchbase.engine.run import BestLoss, Run
from torchbase.engine.training_step import network_of
from torchbase.engine.votes import (
    VOTES_FILE,
    BestNetwork,
    Rule,
    Vote,
    append_decision,
    check_rule,
    decide,
    is_better,
    truncate_decisions,
)
from torchbase.errors import RunDirectoryError
from torchbase.files.host_copies import HostCopies
from torchbase.files.tensors import write_tensors
from torchbase.metrics.directions import Mode
from torchbase.metrics.selection import NAME_OF_THE_LOSS
from torchbase.run_directory.names import NETWORK_FILE

logger = logging.getLogger("torchbase")

WRITE_NAME = "best network"


class BestValidation:
    """Saves the best network as ``network.pth``, chosen by a vote of the validation sets.

    A set votes for the network when its value is better than its previous best. By default the value is the loss, and
    the vote must be unanimous. Votes are counted at the end of each epoch, and after each validation within an epoch.
    The sets that were validated since the last decision vote, except sets that are only for demo. If no set votes, the
    network of the last epoch is saved. Each decision is a line of ``votes.jsonl``, with its reason.

    Training waits only for a copy of the network in memory. A thread writes the copy, before any later checkpoint.

    Attributes:
        monitor_of_best: The monitored value, for hooks that follow it.
        best_network: Which network is saved as the best, and its values; None before the first one.
    """

    def __init__(self, monitor: str = "loss", mode: Mode | None = None, rule: Rule = "unanimous") -> None:
        """Sets the monitored value, and how votes are counted.

        Args:
            monitor: The name of the monitored value, an average or metric of an epoch.
            mode: Whether lower (``"min"``) or higher (``"max"``) is better. It is known for the loss and for metrics
                that declare it, as those of torchbase do. For another value, pass it.
            rule: ``"unanimous"``, ``"majority"`` (more than half), ``"any"``, or a function. The function takes the
                votes, a dictionary from the name of a phase to True or False, and returns whether to save the network.

        Raises:
            HookError: If the mode or the rule is none of these.
        """
        check_rule(rule)
        self.monitor_of_best, self._rule = Monitor("BestValidation", monitor, mode), rule
        self._mode: Mode = "min"  # until the run starts
        self._best: dict[str, float] = {}
        self._votes: dict[str, Vote] = {}
        self._decisions = 0
        self._voted: dict[str, float] = {}
        self.best_network: BestNetwork | None = None
        self._copies = HostCopies()

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Finds the mode, warns if no set votes, and truncates the file of decisions to those of the checkpoint."""
        self._mode = self.monitor_of_best.known_mode_in(run)
        if not any(phase.votes for phase in run.validation):
            logger.warning(
                "No validation set votes on the best network, so %s will hold the network of the last epoch. To change "
                "that, return a validation set that is not only for demo from init_datasets.",
                NETWORK_FILE,
            )
        if run.run_directory is not None:
            truncate_decisions(run.run_directory.file(VOTES_FILE), self._decisions)

    @hookimpl
    def on_epoch_start(self, run: Run) -> None:
        """Checks the name of the value before the first epoch, when the rehearsal has found the names."""
        self.monitor_of_best.check_name(run, [phase for phase in run.validation if phase.votes])

    @hookimpl
    def on_phase_end(self, run: Run, phase: Phase) -> None:
        """Records the lowest loss of a validation set, and its vote."""
        if phase.is_training:
            return
        loss, best = phase.averages.get(NAME_OF_THE_LOSS), run.best_losses.get(phase.name)
        if loss is None:  # a validation without a loss
            pass
        elif best is None or loss < best.loss or math.isnan(best.loss):
            run.best_losses[phase.name] = BestLoss(loss, run.epoch, run.progress.iterations)
        if phase.votes:
            value, best_before = self.monitor_of_best.value_of(phase), self._best.get(phase.name)
            is_for = is_better(value, best_before, self._mode)
            self._votes[phase.name] = Vote(phase.name, value, best_before, is_for)
            if is_for:
                self._best[phase.name] = value

    @hookimpl
    def is_best_epoch(self, run: Run) -> bool:
        """Counts the votes of the sets that were validated since the last decision."""
        votes = list(self._votes.values())
        self._voted = _values_of(votes)
        if not votes:
            return not any(phase.votes for phase in run.validation)
        self._votes.clear()
        self._decisions += 1
        decision = decide(self._rule, run.epoch, run.progress.iterations, votes, self.monitor_of_best.name)
        if run.run_directory is not None:
            append_decision(run.run_directory.file(VOTES_FILE), decision)
        return decision.is_best

    def state_dict(self) -> dict[str, Any]:
        """Returns the best values, the votes that aren't counted yet, the number of decisions and the best network."""
        votes = [asdict(vote) for vote in self._votes.values()]
        network = None if self.best_network is None else asdict(self.best_network)
        return {"best": dict(self._best), "votes": votes, "decisions": self._decisions, "network": network}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the best values, the votes, the number of decisions, and the best network.

        Args:
            state: The return value of `state_dict`.
        """
        self._best, self._decisions = dict(state["best"]), state["decisions"]
        self._votes = {vote["phase"]: Vote(**vote) for vote in state["votes"]}
        network = state.get("network")  # which former versions didn't save
        self.best_network = None if network is None else BestNetwork(**network)

    @hookimpl
    def on_best_epoch(self, run: Run) -> None:
        """Saves the network in a thread."""
        values = _values_of(self._votes.values()) or self._voted  # not counted yet, if another hook has decided
        self.best_network = BestNetwork(run.epoch, run.progress.iterations, self.monitor_of_best.name, values)
        directory = run.run_directory
        if directory is not None:
            directory.writes.wait(WRITE_NAME)  # the next lines overwrite the copies that are being written
        if distributed_parameter(run.optimizer) is not None:
            network = whole_network(run)
        else:
            network = None if directory is None else self._copies.of(network_of(run).state_dict())
        if directory is not None and network is not None:
            write = partial(write_tensors, directory.file(NETWORK_FILE), network)
            directory.writes.submit(WRITE_NAME, write)

    @hookimpl
    def on_run_end(self, run: Run) -> None:
        """Waits until the network is on disk."""
        if run.run_directory is not None:
            run.run_directory.writes.wait(WRITE_NAME)

    @hookimpl
    def on_exception(self, run: Run, error: BaseException) -> None:
        """Waits until the network is on disk."""
        if run.run_directory is not None and isinstance(error, Exception):
            try:
                run.run_directory.writes.wait(WRITE_NAME)
            except RunDirectoryError as write_error:
                error.add_note(f"the best network could not be written: {write_error}")


def _values_of(votes: Iterable[Vote]) -> dict[str, float]:
    return {vote.phase: vote.value for vote in votes}
