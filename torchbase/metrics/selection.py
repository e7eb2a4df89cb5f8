"""The metrics that a config chooses, out of the classes that ``init_metrics`` returns, and their computation."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from torch import Tensor

from torchbase.errors import MetricsError, did_you_mean
from torchbase.metrics.base import BaseMetricsClass, describe_unknown, list_names
from torchbase.metrics.chosen import Metric
from torchbase.metrics.epoch_values import EpochValues

NAME_OF_THE_LOSS = "loss"

Functionals: TypeAlias = Mapping[str, Mapping[str, Callable[..., float]]]


class SelectedMetrics:
    """Computes the chosen metrics of one mini-batch from what ``forward_pass`` returned.

    Args:
        functionals: The chosen metrics: from names of metrics classes to functions by the name of the metric. The
            functions take keys of ``forward_pass`` as keyword arguments, as their signatures show.

    Raises:
        MetricsError: Two classes have metrics of one name, or a metric is named "loss".
    """

    def __init__(self, functionals: Functionals) -> None:
        self._metrics = _list_metrics(functionals)
        mistakes = _name_mistakes(self._metrics)
        if mistakes:
            raise _as_error(mistakes)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the metrics, in the order in which the config chose them."""
        return tuple(metric.name for metric in self._metrics)

    def begin_epoch(self) -> EpochValues:
        """Gives what gathers the mini-batches of an epoch."""
        return EpochValues(self._metrics)

    def on_host(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """Brings to the host what metrics over samples ask for, once for all of them.

        Args:
            outputs: What ``forward_pass`` returned.

        Returns:
            What they ask for, detached.
        """
        keys = {key for metric in self._metrics if metric.is_over_samples for key in metric.keywords}
        return {
            key: value.detach().cpu() if isinstance(value, Tensor) else value
            for key, value in outputs.items()
            if key in keys
        }

    def check_outputs(self, outputs: Mapping[str, Any]) -> None:
        """Check that ``forward_pass`` returned all that the metrics ask for.

        Args:
            outputs: What ``forward_pass`` returned.

        Raises:
            MetricsError: Keys are missing; says which, and which metrics ask for them.
        """
        askers: dict[str, list[str]] = {}
        for metric in self._metrics:
            for keyword in metric.required_keywords:
                if keyword not in outputs:
                    askers.setdefault(keyword, []).append(f"{metric.name} of {metric.class_name}")
        if askers:
            raise MetricsError(_describe_missing(askers, list(outputs)))

    def __call__(self, outputs: Mapping[str, Any]) -> dict[str, float]:
        """Compute the metrics. Each gets the values that it asks for, and no others. Figures are left out.

        Args:
            outputs: What ``forward_pass`` returned.

        Returns:
            The values by the names of the metrics, in the order in which the config chose them.

        Raises:
            MetricsError: Keys are missing, or a metric returned something that is not a number.
            Exception: Whatever a metric raises, with a note that says which metric it was.
        """
        self.check_outputs(outputs)
        return self.begin_epoch().measure(outputs, self.on_host(outputs), samples=1)


def select_metrics(
    metrics_classes: Sequence[BaseMetricsClass] | None, chosen: Mapping[str, Sequence[str]]
) -> SelectedMetrics:
    """Find the metrics that the config chose.

    Args:
        metrics_classes: What ``init_metrics`` returned: instances of metrics classes, or None for none.
        chosen: The config's section ``metrics``: from names of classes to names of metrics.

    Returns:
        The chosen metrics, in the order of the config.

    Raises:
        MetricsError: ``init_metrics`` returned something else than instances of different metrics classes, or the
            config chose what they don't have, two metrics of one name, or one named "loss". Lists all mistakes.
        TypeError: A chosen class has a public method that is no metric.
    """
    mistakes: list[str] = []
    instances = _instances_by_class_name(metrics_classes, mistakes)
    functionals = {
        class_name: _choose_of_class(class_name, names, instances, mistakes) for class_name, names in chosen.items()
    }
    mistakes += _name_mistakes(_list_metrics(functionals))
    if mistakes:
        raise _as_error(mistakes)
    return SelectedMetrics(functionals)


def _list_metrics(functionals: Functionals) -> list[Metric]:
    metrics = []
    for class_name, functionals_of_class in functionals.items():
        for name, functional in functionals_of_class.items():
            parameters = inspect.signature(functional).parameters
            required = tuple(key for key, parameter in parameters.items() if parameter.default is parameter.empty)
            metrics.append(Metric(name, class_name, functional, tuple(parameters), required))
    return metrics


def _instances_by_class_name(
    metrics_classes: Sequence[BaseMetricsClass] | None, mistakes: list[str]
) -> dict[str, BaseMetricsClass | None]:
    """Sort what ``init_metrics`` returned by class name; a class given for an instance of it counts as None."""
    if metrics_classes is not None and not isinstance(metrics_classes, list | tuple):
        mistakes.append(f"init_metrics has to return a list of instances of metrics classes, not {metrics_classes!r}.")
        return {}
    instances: dict[str, BaseMetricsClass | None] = {}
    for entry in metrics_classes or ():
        is_class = isinstance(entry, type) and issubclass(entry, BaseMetricsClass)
        if not is_class and not isinstance(entry, BaseMetricsClass):
            mistakes.append(f"init_metrics returned {entry!r}, which is not an instance of a BaseMetricsClass.")
            continue
        class_name = entry.__name__ if isinstance(entry, type) else type(entry).__name__
        if isinstance(entry, type):
            mistakes.append(f"init_metrics returned the class {class_name}; forgot the parentheses? {class_name}()")
        if class_name in instances:
            mistakes.append(f"init_metrics returned {class_name} twice; the config couldn't tell the two apart.")
        instances[class_name] = None if isinstance(entry, type) else entry
    return instances


def _choose_of_class(
    class_name: str,
    names: Sequence[str],
    instances: Mapping[str, BaseMetricsClass | None],
    mistakes: list[str],
) -> dict[str, Callable[..., float]]:
    if class_name not in instances:
        mistakes.append(
            f"The config chooses metrics of {class_name!r}, which init_metrics doesn't return."
            f"{did_you_mean(class_name, instances)} It returns {list_names(instances)}."
        )
    instance = instances.get(class_name)
    if instance is None:
        return {}
    known = instance.get_all_metric_functionals_dict()
    mistakes.extend(describe_unknown(class_name, name, known) for name in names if name not in known)
    return {name: known[name] for name in names if name in known}


def _name_mistakes(metrics: Sequence[Metric]) -> list[str]:
    mistakes = []
    class_of_name: dict[str, str] = {}
    for metric in metrics:
        if metric.name == NAME_OF_THE_LOSS:
            mistakes.append(
                f"Metric {metric.name!r} of {metric.class_name} has the name of the loss; rename its method."
            )
        if metric.name in class_of_name:
            mistakes.append(
                f"{class_of_name[metric.name]} and {metric.class_name} both have the chosen metric {metric.name!r}; "
                "rename one of the methods, or choose only one."
            )
        class_of_name[metric.name] = metric.class_name
    return mistakes


def _as_error(mistakes: Sequence[str]) -> MetricsError:
    return MetricsError("The choice of metrics is wrong:\n" + "\n".join(f"- {mistake}" for mistake in mistakes))


def _describe_missing(askers: Mapping[str, Sequence[str]], returned: Sequence[object]) -> str:
    returned_names = [key for key in returned if isinstance(key, str)]
    lines = [
        f"- {keyword!r}, for {', '.join(labels)}.{did_you_mean(keyword, returned_names)}"
        for keyword, labels in askers.items()
    ]
    return "\n".join(
        [
            "The chosen metrics ask for keys that forward_pass did not return:",
            *lines,
            f"It returned {list_names(returned)}. Return the missing keys, too, or map those it returns to the "
            'arguments of the metrics: keyword_maps={"key of forward_pass": "argument of the metrics"}.',
        ]
    )
