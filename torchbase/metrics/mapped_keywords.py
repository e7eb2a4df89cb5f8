"""Functions that call a metric with keys of ``forward_pass`` in place of its arguments."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torchbase.metrics.epoch_kinds import copy_declaration


def with_mapped_keywords(
    label: str, method: Callable[..., float], key_of_argument: Mapping[str, str]
) -> Callable[..., float]:
    """Returns a function that calls a metric with keys of ``forward_pass``.

    Args:
        label: The class and the name of the metric, for messages.
        method: The metric, bound to its instance.
        key_of_argument: Maps arguments of the metric to keys. Other arguments use the key of the same name.

    Returns:
        The function, whose signature lists the keys, with the declarations of the metric.

    Raises:
        TypeError: A parameter of the metric is not keyword-only.
    """
    signature = inspect.signature(method)
    for parameter in signature.parameters.values():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            raise TypeError(
                f"The parameter {str(parameter)!r} of {label} has to be keyword-only, since the method is a metric. To "
                "fix, put a '*' before the parameters, or start the name of the method with '_' if it is not a metric."
            )
    argument_of_key = {key_of_argument.get(argument, argument): argument for argument in signature.parameters}
    mapped = signature.replace(
        parameters=[signature.parameters[argument].replace(name=key) for key, argument in argument_of_key.items()]
    )

    # Without the annotations: they use the names of the arguments, not the keys.
    @functools.wraps(method, assigned=("__module__", "__name__", "__qualname__", "__doc__"))
    def functional(**outputs: Any) -> float:
        try:
            bound = mapped.bind(**outputs)
        except TypeError as error:
            raise TypeError(f"{label}{mapped}: {error}.") from error
        return method(**{argument_of_key[key]: value for key, value in bound.arguments.items()})

    functional.__signature__ = mapped  # type: ignore[attr-defined]
    return copy_declaration(method, functional, argument_of_key)
