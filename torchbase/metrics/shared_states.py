"""The states of the chosen metrics. Several metrics can share a state."""

from collections.abc import Mapping, Sequence
from typing import Any

from torchbase.metrics.chosen import Computed, Metric
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

    def measure(self, outputs: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, Exception]]:
        """Updates the states with a mini-batch and computes its own values.

        Args:
            outputs: The outputs of ``forward_pass``.

        Returns:
            The values of this mini-batch, and the errors of metrics that can't be computed for it, each by metric name.
        """
        prepared: dict[object, Any] = {}
        of_mini_batch = SharedStates(self._metrics)
        of_mini_batch._update(outputs, prepared)
        values, errors = of_mini_batch._try_compute()
        for key, metric in self._first.items():
            if not self._states[key].merge(of_mini_batch._states[key]):
                metric.update(self._states[key], outputs, prepared)
        return values, errors

    def compute(self, metric: Metric, computed: Computed) -> float:
        """Computes the value of a metric over all mini-batches.

        Args:
            metric: One of the metrics that have a state.
            computed: What is already computed over all mini-batches. New results are added.

        Returns:
            The value.

        Raises:
            Exception: Any error that the state raises.
        """
        return metric.compute_from(self._states[metric.state_key], computed)

    def _try_compute(self) -> tuple[dict[str, float], dict[str, Exception]]:
        values: dict[str, float] = {}
        errors: dict[str, Exception] = {}
        computed: Computed = {}
        for metric in self._metrics:
            try:
                values[metric.name] = self.compute(metric, computed)
            except Exception as error:
                errors[metric.name] = error
        return values, errors

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
