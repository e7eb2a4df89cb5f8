"""Averages the values of the iterations of an epoch."""

from collections.abc import Mapping, Sequence
from typing import Any

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.iteration_values import IterationValues
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.errors import StepError


class MetricAverages:
    """Averages the logged values of each epoch, weighted by samples.

    The loss and its parts are weighted by what ``infer_loss_weight`` of the session returns, by default the samples. A
    value that only some iterations log is averaged over these iterations. Sums are in double precision.
    """

    def __init__(self) -> None:
        self._sums: dict[str, dict[str, float]] = {}
        self._samples: dict[str, dict[str, float]] = {}

    @hookimpl
    def on_phase_start(self, phase: Phase) -> None:
        """Resets the sums, unless the phase resumes in the middle."""
        if phase.progress.mini_batches == 0 or phase.name not in self._sums:
            self._sums[phase.name], self._samples[phase.name] = {}, {}

    @hookimpl
    def on_values_read(self, phase: Phase, rows: Sequence[IterationValues]) -> None:
        """Adds the values of a block, each weighted by the number of samples of its mini-batch, or by its weight."""
        sums, samples = self._sums[phase.name], self._samples[phase.name]
        for row in rows:
            if row.loss_weights:
                self._add_weighted(phase, row)
                continue
            for name, value in row.values.items():
                sums[name] = sums.get(name, 0.0) + value * row.samples
                samples[name] = samples.get(name, 0) + row.samples

    @hookimpl
    def compute_phase_metrics(self, run: Run, phase: Phase) -> Mapping[str, float]:
        """Returns the averages, except of the selected metrics, which `Metrics` computes over the epoch."""
        samples, metrics = self._samples[phase.name], run.metrics.names if run.metrics is not None else ()
        for name in [name for name, weight in samples.items() if weight == 0]:
            raise StepError(
                f"The average of '{name}' over epoch {run.epoch} of {phase.name} is undefined, since infer_loss_weight "
                "returned 0 for each of its mini-batches. To fix, check the data, or what infer_loss_weight counts."
            )
        return {name: total / samples[name] for name, total in self._sums[phase.name].items() if name not in metrics}

    def _add_weighted(self, phase: Phase, row: IterationValues) -> None:
        sums, weights = self._sums[phase.name], self._samples[phase.name]
        # Sorted, for the same order in each process.
        own = {name: float(weight.value) for weight in row.loss_weights for name in sorted(weight.names)}
        for name in dict.fromkeys((*row.values, *own)):  # a loss that weighs 0 isn't among the values
            weight = own.get(name, row.samples)
            sums[name] = sums.get(name, 0.0) + row.values.get(name, 0.0) * weight
            weights[name] = weights.get(name, 0) + weight

    def state_dict(self) -> dict[str, Any]:
        """Returns the sums of the current epoch."""
        return {"sums": self._sums, "samples": self._samples}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the sums of an epoch that is resumed.

        Args:
            state: The return value of `state_dict`.
        """
        self._sums, self._samples = dict(state["sums"]), dict(state["samples"])
