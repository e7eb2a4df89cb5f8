"""The states of the chosen metrics that have one, each shared by all metrics that can compute from it."""

from collections.abc import Mapping, Sequence
from typing import Any

from torchbase.metrics.chosen import Metric
from torchbase.metrics.epoch_kinds import ACCUMULATED, EpochState


class SharedStates:
    """Takes mini-batches once for each state, and gives the values of all metrics."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        """Makes the states.

        Args:
            metrics: The chosen metrics; those without a state are left out.
        """
        self._metrics = [metric for metric in metrics if metric.kind == ACCUMULATED]
        self._first: dict[object, Metric] = {}
        for metric in self._metrics:
            self._first.setdefault(metric.state_key, metric)
        self._states: dict[object, EpochState] = {key: metric.make_state() for key, metric in self._first.items()}

    def update(self, outputs: Mapping[str, Any]) -> None:
        """Takes a mini-batch.

        Args:
            outputs: What ``forward_pass`` returned.
        """
        self._update(outputs, {})

    def measure(self, outputs: Mapping[str, Any]) -> dict[str, float]:
        """Takes a mini-batch and gives its own values.

        Args:
            outputs: What ``forward_pass`` returned.

        Returns:
            The values of this mini-batch, by the names of the metrics.
        """
        prepared: dict[object, Any] = {}
        own = SharedStates(self._metrics)
        own._update(outputs, prepared)
        values = own.compute()
        for key, metric in self._first.items():
            if not self._states[key].merge(own._states[key]):
                metric.update(self._states[key], outputs, prepared)
        return values

    def compute(self) -> dict[str, float]:
        """Gives the values by the names of the metrics."""
        return {metric.name: metric.compute_from(self._states[metric.state_key]) for metric in self._metrics}

    def state_dict(self) -> dict[str, Any]:
        """Gives what the states keep, each by the name of the first metric that has it."""
        return {self._first[key].name: state.state_dict() for key, state in self._states.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes what `state_dict` gave, for the same metrics."""
        for key, metric in self._first.items():
            self._states[key].load_state_dict(state[metric.name])

    def _update(self, outputs: Mapping[str, Any], prepared: dict[object, Any]) -> None:
        for key, metric in self._first.items():
            metric.update(self._states[key], outputs, prepared)
