"""The values of the chosen metrics over an epoch, collected mini-batch by mini-batch."""

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from torchbase.errors import MetricsError
from torchbase.metrics.chosen import Computed, Metric
from torchbase.metrics.epoch_kinds import ACCUMULATED, FIGURE, MEAN, OVER_SAMPLES
from torchbase.metrics.shared_states import SharedStates
from torchbase.metrics.states import nan_with_warning

INTEGERS = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)


class EpochValues:
    """Collects what the metrics need of each mini-batch, and computes their values over the epoch.

    The arguments of metrics over all samples are stored on the host, detached. Integers are stored in the narrowest
    dtype that can hold them: a label of ten classes takes one byte; ten probabilities in float32 take forty.
    """

    def __init__(self, metrics: Sequence[Metric]) -> None:
        """Starts an epoch.

        Args:
            metrics: The chosen metrics.
        """
        self._metrics = metrics
        self._states = SharedStates(metrics)
        self._sums: dict[str, float] = {metric.name: 0.0 for metric in metrics if metric.kind == MEAN}
        self._samples = 0
        self._stored: dict[str, list[Any]] = {
            key: [] for metric in metrics if metric.is_over_samples for key in metric.keywords
        }
        self._dtypes: dict[str, torch.dtype] = {}

    def add(self, outputs: Mapping[str, Any], on_host: Mapping[str, Any], samples: int) -> None:
        """Adds a mini-batch.

        Args:
            outputs: The outputs of ``forward_pass``.
            on_host: The outputs to store, on the host.
            samples: The number of samples in the mini-batch.

        Raises:
            MetricsError: Keys are missing, or a metric does not return a number.
            Exception: Any error that a metric raises.
        """
        self._states.update(outputs)
        computed: Computed = {}
        means = {metric.name: metric.evaluate(outputs, computed) for metric in self._metrics if metric.kind == MEAN}
        self._add(means, on_host, samples)

    def measure(self, outputs: Mapping[str, Any], on_host: Mapping[str, Any], samples: int) -> dict[str, float]:
        """Adds a mini-batch and computes its own values.

        Args:
            outputs: The outputs of ``forward_pass``.
            on_host: The outputs to store, on the host.
            samples: The number of samples in the mini-batch.

        Returns:
            The values of this mini-batch by metric name, without figures. A metric that can't be computed for it, but
            for all mini-batches so far, is NaN, with a UserWarning. So is one that fails for a single sample.

        Raises:
            MetricsError: Keys are missing, or a metric does not return a number.
            Exception: Any error of a metric that can't be computed for all mini-batches so far either.
        """
        values, errors = self._states.measure(outputs)
        computed: Computed = {}
        for metric in self._metrics:
            if metric.kind == MEAN:
                values[metric.name] = metric.evaluate(outputs, computed)
            elif metric.kind == OVER_SAMPLES:
                try:
                    values[metric.name] = metric.evaluate(on_host, computed)
                except Exception as error:
                    errors[metric.name] = error
        self._add(
            {metric.name: values[metric.name] for metric in self._metrics if metric.kind == MEAN}, on_host, samples
        )
        for metric in self._metrics:
            if metric.name in errors:
                if samples != 1 and not self._can_compute(metric):
                    raise errors[metric.name]
                values[metric.name] = _nan_of_error(metric, errors[metric.name])
        return {metric.name: values[metric.name] for metric in self._metrics if metric.kind != FIGURE}

    def compute(self) -> tuple[dict[str, float], dict[str, Any]]:
        """Computes the values over all mini-batches.

        Returns:
            The numbers and the figures, each by metric name. If there is a single sample, a metric that can't be
            computed for it is NaN, with a UserWarning.

        Raises:
            MetricsError: The shapes of an argument differ between mini-batches beyond the samples, or a metric does
                not return a number.
            Exception: Any error that a metric raises.
        """
        if self._samples == 0:
            return {}, {}
        outputs = self._all_outputs(self._stored)
        computed: Computed = {}
        values = {metric.name: self._compute_or_nan(metric, outputs, computed) for metric in self._metrics}
        figures = {metric.name: values.pop(metric.name) for metric in self._metrics if metric.kind == FIGURE}
        return values, figures

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of the epoch."""
        return {
            "states": self._states.state_dict(),
            "sums": dict(self._sums),
            "samples": self._samples,
            "stored": {key: list(parts) for key, parts in self._stored.items()},
            "dtypes": {key: str(dtype).removeprefix("torch.") for key, dtype in self._dtypes.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the state of an epoch.

        Args:
            state: The return value of `state_dict`, for the same metrics.
        """
        self._states.load_state_dict(state["states"])
        self._sums, self._samples = dict(state["sums"]), state["samples"]
        self._stored = {key: list(parts) for key, parts in state["stored"].items()}
        self._dtypes = {key: getattr(torch, name) for key, name in state["dtypes"].items()}

    def _add(self, means: Mapping[str, float], on_host: Mapping[str, Any], samples: int) -> None:
        for name, value in means.items():
            self._sums[name] += value * samples
        self._samples += samples
        for key, parts in self._stored.items():
            if key in on_host:
                parts.append(self._to_stored(key, on_host[key]))

    def _compute(self, metric: Metric, outputs: Mapping[str, Any], computed: Computed) -> Any:
        if metric.kind == ACCUMULATED:
            return self._states.compute(metric, computed)
        if metric.kind == MEAN:
            return self._mean(metric)
        return metric.draw(outputs) if metric.kind == FIGURE else metric.evaluate(outputs, computed)

    def _mean(self, metric: Metric) -> float:
        total = self._sums[metric.name]
        if math.isnan(total):
            return nan_with_warning(f"{metric.name} of {metric.class_name}", "it is NaN for a mini-batch")
        return total / self._samples

    def _compute_or_nan(self, metric: Metric, outputs: Mapping[str, Any], computed: Computed) -> Any:
        try:
            return self._compute(metric, outputs, computed)
        except Exception as error:
            if self._samples != 1 or metric.kind == FIGURE:
                raise
            return _nan_of_error(metric, error)

    def _can_compute(self, metric: Metric) -> bool:
        """Returns whether a metric can be computed over the mini-batches so far."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                self._compute(metric, self._all_outputs(metric.keywords), {})
            except Exception:  # the caller raises the error of the mini-batch, which has the same cause
                return False
        return True

    def _all_outputs(self, keys: Iterable[str]) -> dict[str, Any]:
        stored = {key: self._stored[key] for key in keys if key in self._stored}
        return {key: self._concatenate(key, parts) for key, parts in stored.items() if parts}

    def _to_stored(self, key: str, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return list(value) if isinstance(value, list | tuple) else [value]
        value = value.reshape(1) if value.dim() == 0 else value
        self._dtypes.setdefault(key, value.dtype)
        return _copy_in_narrowest_dtype(value)

    def _concatenate(self, key: str, parts: list[Any]) -> Any:
        if not isinstance(parts[0], torch.Tensor):
            return [item for part in parts for item in part]
        if len({(part.shape[1:], part.is_sparse) for part in parts}) > 1:
            shapes = ", ".join(sorted({str(tuple(part.shape)) for part in parts})[:4])
            raise MetricsError(
                f"The shapes of the output {key!r} of forward_pass differ between mini-batches beyond the first "
                f"dimension ({shapes}), so metrics can't be computed over all samples of an epoch. To fix, flatten or "
                "pad it in forward_pass, or declare the metrics that use it with @mean_over_samples or @accumulated."
            )
        return torch.cat(parts).to(self._dtypes[key])


def _nan_of_error(metric: Metric, error: Exception) -> float:
    reason = f"{type(error).__name__}: {error}".rstrip(".")
    return nan_with_warning(f"{metric.name} of {metric.class_name}", reason)


def _copy_in_narrowest_dtype(tensor: torch.Tensor) -> torch.Tensor:
    """Copies a tensor; integers are copied to the narrowest dtype that can hold them."""
    if tensor.dtype in INTEGERS and tensor.numel():
        low, high = (int(limit) for limit in torch.aminmax(tensor))
        for dtype in INTEGERS:
            if torch.iinfo(dtype).min <= low and high <= torch.iinfo(dtype).max:
                return tensor.to(dtype, copy=True)
    return tensor.clone(memory_format=torch.contiguous_format)
