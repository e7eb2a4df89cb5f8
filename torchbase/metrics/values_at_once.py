"""A decorator for metrics that compute several values at once."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torchbase.errors import MetricsError, describe_returned
from torchbase.metrics.epoch_kinds import FIGURE, kind_of

Method = TypeVar("Method", bound=Callable[..., Any])

_NAMES = "torchbase_names_of_values"
_SOURCE = "torchbase_source_of_values"


def several_values(*names: str) -> Callable[[Method], Method]:
    """Declares that a method computes several metrics at once, and returns a dictionary of their values.

    The config chooses the values by their names, not by that of the method. For a mini-batch, and for an epoch, the
    method is called once for all chosen values.

    Args:
        *names: The names of the values. Other entries of the dictionary are ignored.

    Returns:
        The decorator of the method.

    Raises:
        MetricsError: There is no name, a name is not a valid name of a method, or a name is used twice.
    """
    invalid = [name for name in names if not isinstance(name, str) or not name.isidentifier()]
    if invalid or not names or len(set(names)) < len(names):
        raise MetricsError(
            "several_values expects the names of the values, which are different and consist of letters, digits and "
            f"underscores, but got {', '.join(map(repr, names)) or 'none'}. To fix, write for example "
            "@several_values('precision', 'recall')."
        )

    def declare(method: Method) -> Method:
        setattr(method, _NAMES, names)
        return method

    return declare


def functionals_of(name: str, label: str, whole: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """Returns the functions of a method of a metrics class: one, or one for each of its values.

    Args:
        name: The name of the method.
        label: The class and the name, for messages.
        whole: The function that calls the method, with its declarations.

    Returns:
        A dictionary from the names of the metrics to their functions.

    Raises:
        MetricsError: The method is also declared to return a figure.
    """
    names: tuple[str, ...] | None = getattr(whole, _NAMES, None)
    if names is None:
        return {name: whole}
    if kind_of(whole) == FIGURE:
        raise MetricsError(
            f"{label} is declared with @several_values and @figure_over_samples, but a figure isn't a number. To fix, "
            "write a method for each of them."
        )
    return {one: _functional_of(one, label, whole) for one in names}


def source_of(functional: Callable[..., Any]) -> tuple[Callable[..., Any], Callable[[Any], Any]] | None:
    """Returns what computes the value of a metric together with others.

    Args:
        functional: The function of the metric.

    Returns:
        The function that computes all values, and a function that takes the value of the metric from its result; None
        if the metric is computed on its own.
    """
    source: tuple[Callable[..., Any], Callable[[Any], Any]] | None = getattr(functional, _SOURCE, None)
    return source


def _functional_of(name: str, label: str, whole: Callable[..., Any]) -> Callable[..., Any]:
    def take(returned: Any) -> Any:
        if not isinstance(returned, Mapping) or name not in returned:
            keys = f"a dictionary of {', '.join(map(repr, returned))}" if isinstance(returned, Mapping) else None
            raise MetricsError(
                f"{label} is declared with @several_values(…, {name!r}, …), so it has to return a dictionary with this "
                f"name, but returned {keys or describe_returned(returned)}."
            )
        return returned[name]

    @functools.wraps(whole)
    def functional(**outputs: Any) -> Any:
        return take(whole(**outputs))

    setattr(functional, _SOURCE, (whole, take))
    return functional
