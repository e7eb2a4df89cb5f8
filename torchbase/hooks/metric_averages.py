"""Averages the values of the iterations of an epoch."""

from collections.abc import Mapping, Sequence
from typing import Any

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.iteration_values import IterationValues
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run


class MetricAverages:
    """Averages the logged values of each epoch, weighted by samples.

    A value that only some iterations log is averaged over these iterations. Sums are in double precision.
    """

    def __init__(self) -> None:
        self._sums: dict[str, dict[str, float]] = {}
        self._samples: dict[str, dict[str, int]] = {}

    @hookimpl
    def on_phase_start(self, phase: Phase) -> None:
        """Resets the sums, unless the phase resumes in the middle."""
        if phase.progress.mini_batches == 0 or phase.name not in self._sums:
            self._sums[phase.name], self._samples[phase.name] = {}, {}

    @hookimpl
    def on_values_read(self, phase: Phase, rows: Sequence[IterationValues]) -> None:
        """Adds the values of a block, each weighted by the number of samples of its mini-batch."""
        sums, samples = self._sums[phase.name], self._samples[phase.name]
        for row in rows:
            for name, value in row.values.items():
                sums[name] = sums.get(name, 0.0) + value * row.samples
                samples[name] = samples.get(name, 0) + row.samples

    @hookimpl
    def compute_phase_metrics(self, run: Run, phase: Phase) -> Mapping[str, float]:
        """Returns the averages, except of the selected metrics, which `Metrics` computes over the epoch."""
        samples, metrics = self._samples[phase.name], run.metrics.names if run.metrics is not None else ()
        return {name: total / samples[name] for name, total in self._sums[phase.name].items() if name not in metrics}

    def state_dict(self) -> dict[str, Any]:
        """Returns the sums of the current epoch."""
        return {"sums": self._sums, "samples": self._samples}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the sums of an epoch that is resumed.

        Args:
            state: The return value of `state_dict`.
        """
        self._sums, self._samples = dict(state["sums"]), dict(state["samples"])
