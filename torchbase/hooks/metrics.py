"""Computes the chosen metrics of mini-batches and of epochs."""

import logging
import warnings
from collections.abc import Mapping
from typing import Any

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.intervals import Interval
from torchbase.metrics.epoch_values import EpochValues

logger = logging.getLogger("torchbase")


class Metrics:
    """Computes the metrics of every n-th mini-batch, and of each epoch over all of its samples.

    In training an epoch's values are over the mini-batches that were measured, each by the network of its time; with
    ``every="1it"`` these are all.
    """

    def __init__(self, every: str | Interval = "10it") -> None:
        """Sets how often.

        Args:
            every: Of how many iterations one is measured, e.g. ``"10it"``; the first of each epoch is.

        Raises:
            IntervalError: If it can't be read, or isn't in iterations.
        """
        self._every = Interval.parse(every, units=("it",)).count
        self._epochs: dict[str, EpochValues] = {}
        self._kept: Mapping[str, Any] = {}
        self._said: set[str] = set()

    @hookimpl
    def on_phase_start(self, run: Run, phase: Phase) -> None:
        """Begins an epoch, or goes on with one."""
        if run.metrics is None or (phase.name in self._epochs and phase.progress.mini_batches > 0):
            return
        self._epochs[phase.name] = run.metrics.begin_epoch()
        if phase.progress.mini_batches > 0 and phase.name in self._kept:
            self._epochs[phase.name].load_state_dict(self._kept[phase.name])

    @hookimpl
    def on_iteration_end(self, run: Run, phase: Phase) -> None:
        """Gathers what the epoch needs, and adds the metrics to the values of the iteration."""
        if run.metrics is None or phase.outputs is None:
            return
        is_measured = (phase.progress.mini_batches - 1) % self._every == 0
        if not is_measured and phase.is_training:
            return
        run.metrics.check_outputs(phase.outputs)
        on_host, epoch = run.metrics.on_host(phase.outputs), self._epochs[phase.name]
        if not is_measured:
            epoch.add(phase.outputs, on_host, phase.samples)
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a mini-batch lacks a class says nothing of the epoch
            phase.values.update(epoch.measure(phase.outputs, on_host, phase.samples))

    @hookimpl
    def compute_phase_metrics(self, run: Run, phase: Phase) -> Mapping[str, float]:
        """Gives the values of the epoch, and records its figures."""
        epoch = self._epochs.pop(phase.name, None)
        if epoch is None:
            return {}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            values, figures = epoch.compute()
        for warning in caught:
            self._warn_once(phase, str(warning.message))
        unit, step = run.curve(phase)
        for name, figure in figures.items():
            run.call.log_figure(run=run, tag=phase.tag(name, unit), figure=figure, step=step)
        return values

    def state_dict(self) -> dict[str, Any]:
        """Gives what was gathered of the epochs that are not done."""
        return {name: epoch.state_dict() for name, epoch in self._epochs.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes what was gathered.

        Args:
            state: What `state_dict` gave.
        """
        self._kept = dict(state)
        self._epochs.clear()

    def _warn_once(self, phase: Phase, message: str) -> None:
        if f"{phase.name} {message}" not in self._said:
            self._said.add(f"{phase.name} {message}")
            logger.warning("Over an epoch of %s: %s This is said once.", phase.name, message)
