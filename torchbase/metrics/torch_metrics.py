"""An adapter that makes the metrics of torchmetrics those of a metrics class."""

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from torchbase.errors import MetricsError
from torchbase.metrics.base import BaseMetricsClass
from torchbase.metrics.epoch_kinds import EpochState, accumulated
from torchbase.metrics.states import value_at_once

VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class TorchMetrics(BaseMetricsClass):
    """Makes metrics of the package torchmetrics available under names of one's choice.

    The arguments of a metric are those of its ``update``, mostly ``preds`` and ``target``; the value has to be a single
    number. The value of an epoch is what a copy of the metric, updated with each mini-batch, computes. It lives on
    the device of the mini-batches, and is kept in checkpoints. The given metrics themselves are not changed::

        TorchMetrics(
            {"accuracy": torchmetrics.classification.MulticlassAccuracy(num_classes=10)},
            keyword_maps={"scores": "preds", "label": "target"},
        )

    The config names its metrics under ``"TorchMetrics"``; for several such objects with different keys, make a
    subclass of another name for each.

    Source: https://lightning.ai/docs/torchmetrics

    Args:
        metrics: From names of metrics to metrics of torchmetrics.
        keyword_maps: From keys of what ``forward_pass`` returns to names of the metrics' arguments.

    Raises:
        TypeError: ``metrics`` is no mapping from strings to metrics of torchmetrics, or one of them has no named
            arguments; ``keyword_maps`` is no mapping of strings to strings.
        MetricsError: Torchmetrics is not installed, a name can't be that of a metric, or ``keyword_maps`` don't fit.
    """

    def __init__(self, metrics: Mapping[str, Any], keyword_maps: Mapping[str, str] | None = None) -> None:
        metric_class = _import_metric_class()
        _check_metrics(metrics, metric_class)
        methods = {name: _as_method(name, metric, metric_class) for name, metric in metrics.items()}
        # The base class looks for metrics among the functions of the class, so that each object needs one of its own.
        own_class = type(self)
        self.__class__ = type(own_class.__name__, (own_class,), {"__doc__": own_class.__doc__, **methods})
        super().__init__(keyword_maps)


class _TorchMetricState(EpochState):
    """A metric of torchmetrics that is updated over an epoch."""

    def __init__(self, metric: Any, metric_class: Any) -> None:
        """Takes a metric over.

        Args:
            metric: A copy that no one else updates.
            metric_class: The class of all metrics of torchmetrics.
        """
        self._metric, self._metric_class = metric, metric_class
        metric.reset()

    def update(self, **outputs: Any) -> None:
        device = next((value.device for value in outputs.values() if isinstance(value, Tensor)), self._metric.device)
        if device != self._metric.device:
            self._metric.to(device)
        self._metric.update(**outputs)

    def reset(self) -> None:
        """Forgets all mini-batches."""
        self._metric.reset()

    def compute(self) -> float:
        value: float = self._metric.compute()  # checked where it is used: torchmetrics has metrics of many values, too
        return value

    def state_dict(self) -> dict[str, Any]:
        return {
            path: {"updates": metric.update_count, "values": _copied(metric.metric_state, torch.device("cpu"))}
            for path, metric in self._parts()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for path, metric in self._parts():
            for name, value in _copied(state[path]["values"], metric.device).items():
                setattr(metric, name, value)
            # Torchmetrics has no way to say that there were updates, and some metrics divide by their number.
            metric._update_count = state[path]["updates"]

    def _parts(self) -> list[tuple[str, Any]]:
        """Lists the metric and those inside it, as of a sum of two, by their paths."""
        return [(path, one) for path, one in self._metric.named_modules() if isinstance(one, self._metric_class)]


def _copied(values: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Copies a metric's tensors and lists of tensors, since it changes them in their place."""

    def copied(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.detach().to(device, copy=True)
        return [copied(one) for one in value] if isinstance(value, list) else value

    return {name: copied(value) for name, value in values.items()}


def _as_method(name: str, metric: Any, metric_class: Any) -> Callable[..., float]:
    """Makes a method of a metrics class, with the arguments of the metric's ``update`` as its own."""
    single: list[_TorchMetricState] = []

    @accumulated(lambda metrics: _TorchMetricState(metric.clone(), metric_class))
    def method(self: TorchMetrics, **outputs: Any) -> float:
        # One copy for all mini-batches, since a metric may hold a whole network.
        if not single:
            single.append(_TorchMetricState(metric.clone(), metric_class))
        single[0].reset()
        return value_at_once(single[0], **outputs)

    receiver = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = _arguments_of(name, metric, metric_class)
    method.__signature__ = inspect.Signature([receiver, *parameters.values()])  # type: ignore[attr-defined]
    method.__name__, method.__qualname__ = name, f"TorchMetrics.{name}"
    method.__doc__ = f"Return the value of {type(metric).__name__} of torchmetrics."
    return method


def _arguments_of(name: str, metric: Any, metric_class: Any) -> dict[str, inspect.Parameter]:
    """Finds the arguments of a metric's ``update``, or of those inside it if it only hands them on."""
    own = inspect.signature(metric.update).parameters
    hands_on = any(parameter.kind in VARIABLE for parameter in own.values())
    inner = [one for one in metric.modules() if isinstance(one, metric_class) and one is not metric] if hands_on else []
    found = dict(own)
    for one in inner:
        found = {**inspect.signature(one.update).parameters, **found}
    named = {
        argument: parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for argument, parameter in found.items()
        if parameter.kind not in VARIABLE
    }
    if not named:
        raise TypeError(f"The update of the metric {name!r}, {type(metric).__name__}, has no named arguments.")
    return named


def _import_metric_class() -> Any:
    try:
        return import_module("torchmetrics").Metric
    except ImportError as error:
        raise MetricsError(
            "TorchMetrics needs the package torchmetrics, which is not installed. To fix, run: python -m pip install "
            "torchmetrics"
        ) from error


def _check_metrics(metrics: Mapping[str, Any], metric_class: Any) -> None:
    if not isinstance(metrics, Mapping):
        raise TypeError(
            "TorchMetrics needs a dictionary from names to metrics of torchmetrics, but a "
            f"{type(metrics).__name__} came: {metrics!r:.80}."
        )
    for name, metric in metrics.items():
        if not isinstance(metric, metric_class):
            raise TypeError(
                f"The metric {name!r} of TorchMetrics has to be an instance of a torchmetrics.Metric, but is of type "
                f"{type(metric).__name__}. Of a MetricCollection, give the metrics one by one."
            )
        if not isinstance(name, str) or not name.isidentifier() or name.startswith(("_", "get_")):
            raise MetricsError(
                f"A metric of TorchMetrics can't have the name {name!r}; names have letters, digits and underscores, "
                "and begin neither with '_' nor with 'get_'."
            )
