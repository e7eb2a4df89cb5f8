"""The values of the chosen metrics over a whole epoch, gathered mini-batch by mini-batch."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from torchbase.errors import MetricsError
from torchbase.metrics.chosen import Metric
from torchbase.metrics.epoch_kinds import FIGURE, MEAN
from torchbase.metrics.shared_states import SharedStates

INTEGERS = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)


class EpochValues:
    """Gathers what the metrics need of each mini-batch of an epoch, and computes their values over all of it.

    What metrics over all samples ask for is kept on the host, detached, whole numbers in the narrowest type that holds
    them: a label of ten classes takes a byte, ten probabilities of float32 take forty.
    """

    def __init__(self, metrics: Sequence[Metric]) -> None:
        """Begins an epoch.

        Args:
            metrics: The chosen metrics.
        """
        self._metrics = metrics
        self._states = SharedStates(metrics)
        self._sums: dict[str, float] = {one.name: 0.0 for one in metrics if one.kind == MEAN}
        self._samples = 0
        self._kept: dict[str, list[Any]] = {key: [] for one in metrics if one.is_over_samples for key in one.keywords}
        self._dtypes: dict[str, torch.dtype] = {}

    def add(self, outputs: Mapping[str, Any], on_host: Mapping[str, Any], samples: int) -> None:
        """Takes a mini-batch.

        Args:
            outputs: What ``forward_pass`` returned.
            on_host: What of it is kept, on the host.
            samples: How many samples the mini-batch holds.

        Raises:
            MetricsError: Keys are missing, or a metric returned no number.
            Exception: Whatever a metric raises.
        """
        self._states.update(outputs)
        self._add({one.name: one.evaluate(outputs) for one in self._metrics if one.kind == MEAN}, on_host, samples)

    def measure(self, outputs: Mapping[str, Any], on_host: Mapping[str, Any], samples: int) -> dict[str, float]:
        """Takes a mini-batch and gives its own values.

        Args:
            outputs: What ``forward_pass`` returned.
            on_host: What of it is kept, on the host.
            samples: How many samples the mini-batch holds.

        Returns:
            The values of this mini-batch by the names of the metrics; figures are left out.

        Raises:
            MetricsError: Keys are missing, or a metric returned no number.
            Exception: Whatever a metric raises.
        """
        from_states = self._states.measure(outputs)
        values = {
            one.name: from_states[one.name]
            if one.name in from_states
            else one.evaluate(on_host if one.is_over_samples else outputs)
            for one in self._metrics
            if one.kind != FIGURE
        }
        self._add({one.name: values[one.name] for one in self._metrics if one.kind == MEAN}, on_host, samples)
        return values

    def compute(self) -> tuple[dict[str, float], dict[str, Any]]:
        """Computes the values over all that was taken.

        Returns:
            The numbers and the figures, each by the names of the metrics.

        Raises:
            MetricsError: What a metric asks for has another shape in each mini-batch, or it returned no number.
            Exception: Whatever a metric raises.
        """
        if self._samples == 0:
            return {}, {}
        outputs = {key: self._joined(key, kept) for key, kept in self._kept.items() if kept}
        from_states = self._states.compute()
        values = {
            one.name: from_states[one.name] if one.name in from_states else self._value_of(one, outputs)
            for one in self._metrics
        }
        figures = {one.name: values.pop(one.name) for one in self._metrics if one.kind == FIGURE}
        return values, figures

    def state_dict(self) -> dict[str, Any]:
        """Gives all that was taken."""
        return {
            "states": self._states.state_dict(),
            "sums": dict(self._sums),
            "samples": self._samples,
            "kept": {key: list(kept) for key, kept in self._kept.items()},
            "dtypes": {key: str(dtype).removeprefix("torch.") for key, dtype in self._dtypes.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on with an epoch.

        Args:
            state: What `state_dict` gave, for the same metrics.
        """
        self._states.load_state_dict(state["states"])
        self._sums, self._samples = dict(state["sums"]), state["samples"]
        self._kept = {key: list(kept) for key, kept in state["kept"].items()}
        self._dtypes = {key: getattr(torch, name) for key, name in state["dtypes"].items()}

    def _add(self, means: Mapping[str, float], on_host: Mapping[str, Any], samples: int) -> None:
        for name, value in means.items():
            self._sums[name] += value * samples
        self._samples += samples
        for key, kept in self._kept.items():
            if key in on_host:
                kept.append(self._keepable(key, on_host[key]))

    def _value_of(self, metric: Metric, outputs: Mapping[str, Any]) -> Any:
        if metric.kind == MEAN:
            return self._sums[metric.name] / self._samples
        return metric.draw(outputs) if metric.kind == FIGURE else metric.evaluate(outputs)

    def _keepable(self, key: str, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return list(value) if isinstance(value, list | tuple) else [value]
        value = value.reshape(1) if value.dim() == 0 else value
        self._dtypes.setdefault(key, value.dtype)
        return _narrowed(value)

    def _joined(self, key: str, kept: list[Any]) -> Any:
        if not isinstance(kept[0], torch.Tensor):
            return [one for part in kept for one in part]
        if len({(one.shape[1:], one.is_sparse) for one in kept}) > 1:
            shapes = ", ".join(sorted({str(tuple(one.shape)) for one in kept})[:4])
            raise MetricsError(
                f"The output {key!r} of forward_pass has shapes that differ beyond the samples from one mini-batch to "
                f"the next ({shapes}), so metrics can't be computed over all samples of an epoch. To fix, flatten or "
                "pad it in forward_pass, or declare the metrics that ask for it with @mean_over_samples or "
                "@accumulated."
            )
        return torch.cat(kept).to(self._dtypes[key])


def _narrowed(tensor: torch.Tensor) -> torch.Tensor:
    """Gives whole numbers in the narrowest type that holds them, in memory of their own."""
    if tensor.dtype in INTEGERS and tensor.numel():
        low, high = (int(one) for one in torch.aminmax(tensor))
        for dtype in INTEGERS:
            if torch.iinfo(dtype).min <= low and high <= torch.iinfo(dtype).max:
                return tensor.to(dtype, copy=True)
    return tensor.clone(memory_format=torch.contiguous_format)
