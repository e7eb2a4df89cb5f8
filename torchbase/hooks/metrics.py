"""Computes the selected metrics of mini-batches and epochs."""

import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.part_results import outputs_of_all_parts
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.errors import MetricsError
from torchbase.intervals import Interval
from torchbase.metrics.epoch_values import EpochValues
from torchbase.metrics.selection import SelectedMetrics

logger = logging.getLogger("torchbase")


class Metrics:
    """Computes the selected metrics of every n-th mini-batch and of each epoch.

    In validation, the values of an epoch are computed over all samples. In training, they are computed over the
    measured mini-batches, each with the weights of its iteration. With ``every="1it"`` all mini-batches are measured.

    A metric that can't be computed for a mini-batch, such as one of a single sample, is NaN for it. The first time, a
    warning says why.

    With several processes, the main process computes the metrics, from the outputs of the whole mini-batch, and sends
    their values to the others. All outputs that the metrics take are sent between the processes, for each mini-batch of
    validation and each measured one of training. For large outputs, such as images, that takes time: measure fewer
    mini-batches, or let ``forward_pass`` return what the metrics need and nothing larger.
    """

    def __init__(self, every: str | Interval = "10it") -> None:
        """Sets how often mini-batches are measured.

        Args:
            every: The interval in iterations, e.g. ``"10it"``, from the first iteration of each epoch.

        Raises:
            IntervalError: If the interval is invalid, or is not in iterations.
        """
        self._every = Interval.parse(every, units=("it",)).count
        self._epochs: dict[str, EpochValues] = {}
        self._loaded_state: Mapping[str, Any] = {}
        self._warned: set[str] = set()
        self._undefined: set[str] = set()

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Logs that training metrics are not over all mini-batches."""
        has_some = run.metrics is not None and run.metrics.of(is_training=True).names
        if has_some and self._every > 1 and run.processes.is_main:
            logger.info("training metrics are over one mini-batch of every %d, losses over all", self._every)

    @hookimpl
    def on_phase_start(self, run: Run, phase: Phase) -> None:
        """Starts or resumes an epoch."""
        if run.metrics is None or (phase.name in self._epochs and phase.progress.mini_batches > 0):
            return
        metrics = run.metrics.of(is_training=phase.is_training)
        if not metrics.names:
            return
        self._epochs[phase.name] = metrics.begin_epoch()
        if phase.progress.mini_batches > 0 and phase.name in self._loaded_state:
            self._epochs[phase.name].load_state_dict(self._loaded_state[phase.name])

    @hookimpl
    def on_iteration_end(self, run: Run, phase: Phase) -> None:
        """Collects the outputs for the epoch, and adds the metrics to the values of the iteration."""
        if run.metrics is None or phase.outputs is None or phase.name not in self._epochs:
            return
        is_measured = (phase.progress.mini_batches - 1) % self._every == 0
        if not is_measured and phase.is_training:
            return
        metrics = run.metrics.of(is_training=phase.is_training)
        outputs = outputs_of_all_parts(run, phase, metrics.keys)
        metrics.check_outputs(outputs)
        if not is_measured:
            if run.processes.is_main:
                self._epochs[phase.name].add(outputs, metrics.on_host(outputs), phase.samples)
            return
        values = self._measure(metrics, phase, outputs) if run.processes.is_main else None
        values = run.processes.tell(values, f"the metrics of a mini-batch of {phase.name}")
        taken = sorted(values.keys() & phase.values.keys())
        if taken:
            raise MetricsError(
                f"The metric '{taken[0]}' in config['metrics'] has the name of a value that the iteration has set. To "
                "fix, rename that value in the hook that implements run_iteration or run_forward."
            )
        phase.values.update(values)

    @hookimpl
    def compute_phase_metrics(self, run: Run, phase: Phase) -> Mapping[str, float]:
        """Returns the values of the epoch, and logs its figures."""
        epoch = self._epochs.pop(phase.name, None)
        if epoch is None:
            return {}
        values = self._compute(run, phase, epoch) if run.processes.is_main else None
        computed: Mapping[str, float] = run.processes.tell(values, f"the metrics of {phase.name}")
        return computed

    def state_dict(self) -> dict[str, Any]:
        """Returns the states of the epochs that are not complete."""
        return {name: epoch.state_dict() for name, epoch in self._epochs.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the states of the epochs that are not complete.

        Args:
            state: The return value of `state_dict`.
        """
        self._loaded_state = dict(state)
        self._epochs.clear()

    def _measure(self, metrics: SelectedMetrics, phase: Phase, outputs: Mapping[str, Any]) -> dict[str, float]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            values = self._epochs[phase.name].measure(outputs, metrics.on_host(outputs), phase.samples)
        for name, value in values.items():
            if math.isnan(value) and name not in self._undefined:
                self._undefined.add(name)
                _warn_of_mini_batch(phase, name, [str(warning.message) for warning in caught])
        return values

    def _compute(self, run: Run, phase: Phase, epoch: EpochValues) -> dict[str, float]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            values, figures = epoch.compute()
        for warning in caught:
            self._warn_once(phase, str(warning.message))
        unit, step = run.curve(phase)
        for name, figure in figures.items():
            run.call.log_figure(run=run, tag=phase.tag(name, unit), figure=figure, step=step)
        return values

    def _warn_once(self, phase: Phase, message: str) -> None:
        if f"{phase.name} {message}" not in self._warned:
            self._warned.add(f"{phase.name} {message}")
            logger.warning("Over an epoch of %s: %s This warning is shown once.", phase.name, message)


def _warn_of_mini_batch(phase: Phase, name: str, messages: Sequence[str]) -> None:
    reasons = [message for message in messages if message.startswith(f"{name} of ")] or messages
    logger.warning(
        "The metric '%s' is NaN for a mini-batch: mini-batch %d of %s, samples: %d. %s The value of an epoch is "
        "computed over all of its samples. This warning is shown once.",
        name,
        phase.progress.mini_batches,
        phase.name,
        phase.samples,
        " ".join(dict.fromkeys(reasons)) or "The metric gives no reason.",
    )
