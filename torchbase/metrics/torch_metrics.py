"""An adapter that turns metrics of torchmetrics into a metrics class."""

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Unpack

import torch
from torch import Tensor

from torchbase.errors import MetricsError
from torchbase.metrics.base import BaseMetricsClass, CommonOptions
from torchbase.metrics.directions import higher_is_better, lower_is_better
from torchbase.metrics.epoch_kinds import EpochState, accumulated
from torchbase.metrics.states import compute_mini_batch

VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class TorchMetrics(BaseMetricsClass):
    """A family of metrics from the package torchmetrics, under custom names.

    The arguments of a metric are those of its ``update``, usually ``preds`` and ``target``. Its value has to be a
    single number. The value of an epoch is computed by a copy of the metric, which is updated with each mini-batch. The
    copy is on the device of the mini-batches and saved in checkpoints. The original metrics are not changed::

        TorchMetrics(
            {"accuracy": torchmetrics.classification.MulticlassAccuracy(num_classes=10)},
            keyword_maps={"scores": "preds", "label": "target"},
        )

    The config chooses these metrics under ``"TorchMetrics"``. Several instances with different keys need different
    prefixes.

    Source: https://lightning.ai/docs/torchmetrics

    Args:
        metrics: A dictionary from metric names to metrics of torchmetrics.
        keyword_maps: Maps keys that ``forward_pass`` returns to arguments of the metrics.
        **options: ``prefix`` and ``validation_only``; see `BaseMetricsClass`.

    Raises:
        TypeError: ``metrics`` is not a mapping of strings to metrics of torchmetrics, ``update`` of a metric has no
            named arguments, or ``keyword_maps`` is not a mapping of strings to strings.
        MetricsError: torchmetrics is not installed, a name is not a valid metric name, or ``keyword_maps`` doesn't
            fit the metrics.
    """

    def __init__(
        self,
        metrics: Mapping[str, Any],
        keyword_maps: Mapping[str, str] | None = None,
        **options: Unpack[CommonOptions],
    ) -> None:
        metric_class = _import_metric_class()
        _check_metrics(metrics, metric_class)
        methods = {name: _as_method(name, metric, metric_class) for name, metric in metrics.items()}
        # The base class finds metrics in the class of an object. So each object needs a class for its own metrics.
        base = type(self)
        self.__class__ = type(base.__name__, (base,), {"__doc__": base.__doc__, **methods})
        super().__init__(keyword_maps, **options)


class _TorchMetricState(EpochState):
    """The state of an epoch in a metric of torchmetrics."""

    def __init__(self, metric: Any, metric_class: Any) -> None:
        """Resets the metric.

        Args:
            metric: A copy that nothing else updates.
            metric_class: The base class ``torchmetrics.Metric``.
        """
        self._metric, self._metric_class = metric, metric_class
        for _, part in self._parts():
            part.distributed_available_fn = _is_never_distributed
        metric.reset()

    def update(self, **outputs: Any) -> None:
        device = next((value.device for value in outputs.values() if isinstance(value, Tensor)), self._metric.device)
        if device != self._metric.device:
            self._metric.to(device)
        self._metric.update(**outputs)

    def reset(self) -> None:
        """Resets the metric."""
        self._metric.reset()

    def compute(self) -> float:
        value: float = self._metric.compute()  # checked by the caller, since some metrics return several values
        return value

    def state_dict(self) -> dict[str, Any]:
        return {
            path: {"updates": metric.update_count, "values": _copy(metric.metric_state, torch.device("cpu"))}
            for path, metric in self._parts()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for path, metric in self._parts():
            for name, value in _copy(state[path]["values"], metric.device).items():
                setattr(metric, name, value)
            # torchmetrics has no public way to set the number of updates, and some metrics divide by it.
            metric._update_count = state[path]["updates"]

    def _parts(self) -> list[tuple[str, Any]]:
        """Lists the metric and the metrics inside it by path, for example the two metrics of a sum."""
        modules = self._metric.named_modules()
        return [(path, module) for path, module in modules if isinstance(module, self._metric_class)]


def _is_never_distributed() -> bool:
    # One process computes the metrics from the outputs of all. The others don't wait for its metric.
    return False


def _copy(values: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Copies the tensors and lists of tensors of a metric, since the metric changes them in place."""

    def copy(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.detach().to(device, copy=True)
        return [copy(item) for item in value] if isinstance(value, list) else value

    return {name: copy(value) for name, value in values.items()}


def _as_method(name: str, metric: Any, metric_class: Any) -> Callable[..., float]:
    """Creates a method of a metrics class with the arguments of ``update`` of the metric."""
    cache: list[_TorchMetricState] = []

    @accumulated(lambda metrics: _TorchMetricState(metric.clone(), metric_class))
    def method(self: TorchMetrics, **outputs: Any) -> float:
        # One copy for all mini-batches, since a metric can contain a whole network.
        if not cache:
            cache.append(_TorchMetricState(metric.clone(), metric_class))
        cache[0].reset()
        return compute_mini_batch(cache[0], **outputs)

    receiver = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = _arguments_of(name, metric, metric_class)
    method.__signature__ = inspect.Signature([receiver, *parameters.values()])  # type: ignore[attr-defined]
    method.__name__, method.__qualname__ = name, f"TorchMetrics.{name}"
    method.__doc__ = f"Returns the value of {type(metric).__name__} of torchmetrics."
    if metric.higher_is_better is not None:  # some metrics leave it open
        (higher_is_better if metric.higher_is_better else lower_is_better)(method)
    return method


def _arguments_of(name: str, metric: Any, metric_class: Any) -> dict[str, inspect.Parameter]:
    """Finds the arguments of ``update`` of a metric, including those that it passes to the metrics inside it."""
    parameters = dict(inspect.signature(metric.update).parameters)
    if any(parameter.kind in VARIABLE for parameter in parameters.values()):
        for module in metric.modules():
            if isinstance(module, metric_class) and module is not metric:
                parameters = {**inspect.signature(module.update).parameters, **parameters}
    named = {
        argument: parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for argument, parameter in parameters.items()
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
            "TorchMetrics needs a dictionary from names to metrics of torchmetrics, but got "
            f"{type(metrics).__name__}: {metrics!r:.80}."
        )
    for name, metric in metrics.items():
        if not isinstance(metric, metric_class):
            raise TypeError(
                f"The metric {name!r} of TorchMetrics has to be an instance of torchmetrics.Metric, but got "
                f"{type(metric).__name__}. To fix, pass the metrics of a MetricCollection one by one."
            )
        if not isinstance(name, str) or not name.isidentifier() or name.startswith(("_", "get_")):
            raise MetricsError(
                f"{name!r} is not a valid name for a metric of TorchMetrics. A name consists of letters, digits and "
                "underscores, and starts neither with '_' nor with 'get_'."
            )
