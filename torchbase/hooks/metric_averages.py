"""Averages the values of iterations over an epoch."""

from collections.abc import Mapping, Sequence
from typing import Any

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.iteration_values import IterationValues
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run


class MetricAverages:
    """Averages each value over the samples of the iterations that gave it, in double precision."""

    def __init__(self) -> None:
        self._sums: dict[str, dict[str, float]] = {}
        self._samples: dict[str, dict[str, int]] = {}

    @hookimpl
    def on_phase_start(self, phase: Phase) -> None:
        """Begins anew, unless the phase goes on in the middle."""
        if phase.progress.mini_batches == 0 or phase.name not in self._sums:
            self._sums[phase.name], self._samples[phase.name] = {}, {}

    @hookimpl
    def on_values_read(self, phase: Phase, rows: Sequence[IterationValues]) -> None:
        """Adds the values of a block, each weighted by the samples of its mini-batch."""
        sums, samples = self._sums[phase.name], self._samples[phase.name]
        for row in rows:
            for name, value in row.values.items():
                sums[name] = sums.get(name, 0.0) + value * row.samples
                samples[name] = samples.get(name, 0) + row.samples

    @hookimpl
    def compute_phase_metrics(self, run: Run, phase: Phase) -> Mapping[str, float]:
        """Gives the averages, but of the chosen metrics, which have values of their own over an epoch."""
        samples, metrics = self._samples[phase.name], run.metrics.names if run.metrics is not None else ()
        return {name: total / samples[name] for name, total in self._sums[phase.name].items() if name not in metrics}

    def state_dict(self) -> dict[str, Any]:
        """Gives the sums of the epoch so far."""
        return {"sums": self._sums, "samples": self._samples}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes the sums of an epoch that goes on.

        Args:
            state: What `state_dict` gave.
        """
        self._sums, self._samples = dict(state["sums"]), dict(state["samples"])
