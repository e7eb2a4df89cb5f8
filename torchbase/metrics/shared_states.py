"""The states of the chosen metrics. Several metrics can share a state."""

from collections.abc import Mapping, Sequence
from typing import Any

from torchbase.metrics.chosen import Metric
from torchbase.metrics.epoch_kinds import ACCUMULATED, EpochState


class SharedStates:
    """Updates each state once per mini-batch, and computes the values of all metrics."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        """Creates the states.

        Args:
            metrics: The chosen metrics. Metrics without a state are ignored.
        """
        self._metrics = [metric for metric in metrics if metric.kind == ACCUMULATED]
        self._first: dict[object, Metric] = {}
        for metric in self._metrics:
            self._first.setdefault(metric.state_key, metric)
        self._states: dict[object, EpochState] = {key: metric.make_state() for key, metric in self._first.items()}

    def update(self, outputs: Mapping[str, Any]) -> None:
        """Updates the states with a mini-batch.

        Args:
            outputs: The outputs of ``forward_pass``.
        """
        self._update(outputs, {})

    def measure(self, outputs: Mapping[str, Any]) -> dict[str, float]:
        """Updates the states with a mini-batch and computes its own values.

        Args:
            outputs: The outputs of ``forward_pass``.

        Returns:
            The values of this mini-batch, by metric name.
        """
        prepared: dict[object, Any] = {}
        of_mini_batch = SharedStates(self._metrics)
        of_mini_batch._update(outputs, prepared)
        values = of_mini_batch.compute()
        for key, metric in self._first.items():
            if not self._states[key].merge(of_mini_batch._states[key]):
                metric.update(self._states[key], outputs, prepared)
        return values

    def compute(self) -> dict[str, float]:
        """Computes the values over all mini-batches, by metric name."""
        return {metric.name: metric.compute_from(self._states[metric.state_key]) for metric in self._metrics}

    def state_dict(self) -> dict[str, Any]:
        """Returns the states, each by the name of the first metric that uses it."""
        return {self._first[key].name: state.state_dict() for key, state in self._states.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the states.

        Args:
            state: The return value of `state_dict`, for the same metrics.
        """
        for key, metric in self._first.items():
            self._states[key].load_state_dict(state[metric.name])

    def _update(self, outputs: Mapping[str, Any], prepared: dict[object, Any]) -> None:
        for key, metric in self._first.items():
            metric.update(self._states[key], outputs, prepared)
