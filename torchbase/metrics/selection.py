"""The metrics that a config chooses from the classes that ``init_metrics`` returns."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from torch import Tensor

from torchbase.errors import MetricsError, did_you_mean
from torchbase.metrics.base import BaseMetricsClass, describe_unknown, list_names
from torchbase.metrics.chosen import Metric
from torchbase.metrics.directions import Mode
from torchbase.metrics.epoch_values import EpochValues
from torchbase.metrics.phases import is_validation_only

NAME_OF_THE_LOSS = "loss"

Functionals: TypeAlias = Mapping[str, Mapping[str, Callable[..., float]]]


class SelectedMetrics:
    """The chosen metrics. They are computed from the outputs of ``forward_pass``.

    Args:
        functionals: The chosen metrics: for each name of a metrics class, a dictionary from metric names to functions.
            The functions take keys of ``forward_pass`` as keyword arguments; their signatures list them.

    Raises:
        MetricsError: Two classes have metrics of the same name, or a metric is named "loss".
    """

    def __init__(self, functionals: Functionals) -> None:
        self._metrics = _list_metrics(functionals)
        problems = _find_name_problems(self._metrics)
        if problems:
            raise _to_error(problems)
        self._of_training = self
        if any(metric.is_validation_only for metric in self._metrics):
            self._of_training = SelectedMetrics(_without_validation_only(functionals))

    def of(self, *, is_training: bool) -> "SelectedMetrics":
        """Returns the metrics of a phase.

        Args:
            is_training: Whether it is training. Otherwise all metrics are computed.
        """
        return self._of_training if is_training else self

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the metrics, in the order of the config."""
        return tuple(metric.name for metric in self._metrics)

    @property
    def modes(self) -> dict[str, Mode | None]:
        """``"max"`` if higher is better, ``"min"`` if lower is better, None if it isn't declared; by metric name."""
        return {metric.name: metric.mode for metric in self._metrics}

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of ``forward_pass`` that the metrics take, in the order of the metrics."""
        return tuple(dict.fromkeys(key for metric in self._metrics for key in metric.keywords))

    def begin_epoch(self) -> EpochValues:
        """Creates the object that collects the mini-batches of an epoch."""
        return EpochValues(self._metrics)

    def on_host(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """Copies the arguments of metrics over all samples to the host, once for all of these metrics.

        Args:
            outputs: The outputs of ``forward_pass``.

        Returns:
            The outputs that these metrics use, detached.
        """
        keys = {key for metric in self._metrics if metric.is_over_samples for key in metric.keywords}
        return {
            key: value.detach().cpu() if isinstance(value, Tensor) else value
            for key, value in outputs.items()
            if key in keys
        }

    def check_outputs(self, outputs: Mapping[str, Any]) -> None:
        """Checks that ``forward_pass`` returns all keys that the metrics need.

        Args:
            outputs: The outputs of ``forward_pass``.

        Raises:
            MetricsError: Keys are missing. The message names them and the metrics that need them.
        """
        metrics_of_missing: dict[str, list[str]] = {}
        for metric in self._metrics:
            for keyword in metric.required_keywords:
                if keyword not in outputs:
                    metrics_of_missing.setdefault(keyword, []).append(f"{metric.name} of {metric.class_name}")
        if metrics_of_missing:
            raise MetricsError(_describe_missing(metrics_of_missing, list(outputs)))

    def __call__(self, outputs: Mapping[str, Any]) -> dict[str, float]:
        """Computes the metrics of a mini-batch, without figures. Each metric is called only with its own keys.

        Args:
            outputs: The outputs of ``forward_pass``.

        Returns:
            The values by metric name, in the order of the config.

        Raises:
            MetricsError: Keys are missing, or a metric does not return a number.
            Exception: Any error that a metric raises, with a note that contains the name of the metric.
        """
        self.check_outputs(outputs)
        # The number of samples is unknown, and only weights means; with 0, an error isn't that of a single sample.
        return self.begin_epoch().measure(outputs, self.on_host(outputs), samples=0)


def select_metrics(
    metrics_classes: Sequence[BaseMetricsClass] | None, chosen: Mapping[str, Sequence[str]]
) -> SelectedMetrics:
    """Selects the metrics that the config chooses.

    Args:
        metrics_classes: The return value of ``init_metrics``: instances of metrics classes, or None for no metrics.
        chosen: The section ``metrics`` of the config, from class names to metric names.

    Returns:
        The chosen metrics, in the order of the config.

    Raises:
        MetricsError: ``init_metrics`` doesn't return instances of metrics classes, or returns a class twice with the
            same prefix; or the config chooses
            metrics that don't exist, two metrics of the same name, or a metric named "loss". The message lists all
            problems.
        TypeError: A chosen class has a public method that is not a valid metric.
    """
    problems: list[str] = []
    instances = _instances_by_class_name(metrics_classes, problems)
    functionals = {
        class_name: _select_of_class(class_name, names, instances, problems) for class_name, names in chosen.items()
    }
    problems += _find_name_problems(_list_metrics(functionals))
    if problems:
        raise _to_error(problems)
    return SelectedMetrics(functionals)


def _list_metrics(functionals: Functionals) -> list[Metric]:
    metrics = []
    for class_name, functionals_of_class in functionals.items():
        for name, functional in functionals_of_class.items():
            parameters = inspect.signature(functional).parameters
            required = tuple(key for key, parameter in parameters.items() if parameter.default is parameter.empty)
            metrics.append(Metric(name, class_name, functional, tuple(parameters), required))
    return metrics


def _without_validation_only(functionals: Functionals) -> Functionals:
    return {
        class_name: {name: one for name, one in of_class.items() if not is_validation_only(one)}
        for class_name, of_class in functionals.items()
    }


def _instances_by_class_name(
    metrics_classes: Sequence[BaseMetricsClass] | None, problems: list[str]
) -> dict[str, list[BaseMetricsClass]]:
    """Returns the instances by class name, with an empty list for a class without an instance."""
    if metrics_classes is not None and not isinstance(metrics_classes, list | tuple):
        problems.append(
            f"init_metrics has to return a list of instances of metrics classes, but returned {metrics_classes!r}."
        )
        return {}
    instances: dict[str, list[BaseMetricsClass]] = {}
    for entry in metrics_classes or ():
        is_class = isinstance(entry, type) and issubclass(entry, BaseMetricsClass)
        if not is_class and not isinstance(entry, BaseMetricsClass):
            problems.append(f"init_metrics returned {entry!r}, which is not an instance of a BaseMetricsClass.")
            continue
        class_name = entry.__name__ if isinstance(entry, type) else type(entry).__name__
        if isinstance(entry, type):
            problems.append(
                f"init_metrics returned the class {class_name} instead of an instance. To fix, return {class_name}()."
            )
        of_class = instances.setdefault(class_name, [])
        if isinstance(entry, type):
            continue
        if any(entry.get_prefix() == other.get_prefix() for other in of_class):
            prefix = f" with the prefix {entry.get_prefix()!r}" if entry.get_prefix() is not None else ""
            problems.append(
                f"init_metrics returned {class_name} twice{prefix}, so the names of its metrics are ambiguous. To fix, "
                f"return one instance, or pass each a prefix of its own, such as {class_name}(…, prefix='head1')."
            )
            continue
        of_class.append(entry)
    return instances


def _select_of_class(
    class_name: str,
    names: Sequence[str],
    instances: Mapping[str, Sequence[BaseMetricsClass]],
    problems: list[str],
) -> dict[str, Callable[..., float]]:
    if class_name not in instances:
        problems.append(
            f"The config chooses metrics of {class_name!r}, but init_metrics doesn't return it."
            f"{did_you_mean(class_name, instances)} It returns {list_names(instances)}."
        )
    if not instances.get(class_name):
        return {}
    known: dict[str, Callable[..., float]] = {}
    for instance in instances[class_name]:
        functionals = instance.get_all_metric_functionals_dict()
        problems.extend(
            f"Two instances of {class_name} that init_metrics returned have the metric {name!r}. To fix, pass another "
            "prefix to one of them."
            for name in names
            if name in functionals and name in known
        )
        known |= functionals
    problems.extend(describe_unknown(class_name, name, known) for name in names if name not in known)
    return {name: known[name] for name in names if name in known}


def _find_name_problems(metrics: Sequence[Metric]) -> list[str]:
    problems = []
    class_of_name: dict[str, str] = {}
    for metric in metrics:
        if metric.name == NAME_OF_THE_LOSS:
            problems.append(
                f"The metric {metric.name!r} of {metric.class_name} has the name of the loss. To fix, rename the "
                "method."
            )
        if metric.name in class_of_name:
            problems.append(
                f"{class_of_name[metric.name]} and {metric.class_name} both have the chosen metric {metric.name!r}. To "
                "fix, rename one of the methods, or choose only one."
            )
        class_of_name[metric.name] = metric.class_name
    return problems


def _to_error(problems: Sequence[str]) -> MetricsError:
    return MetricsError("The choice of metrics is not valid:\n" + "\n".join(f"- {problem}" for problem in problems))


def _describe_missing(metrics_of_missing: Mapping[str, Sequence[str]], returned: Sequence[object]) -> str:
    returned_names = [key for key in returned if isinstance(key, str)]
    lines = [
        f"- {keyword!r}, for {', '.join(labels)}.{did_you_mean(keyword, returned_names)}"
        for keyword, labels in metrics_of_missing.items()
    ]
    return "\n".join(
        [
            "The chosen metrics need keys that forward_pass did not return:",
            *lines,
            f"It returned {list_names(returned)}. To fix, return the missing keys, or map the returned keys to the "
            'arguments of the metrics: keyword_maps={"key of forward_pass": "argument of the metrics"}.',
        ]
    )
