"""The base class of metrics: finds the metric methods and maps the keys of ``forward_pass`` to their arguments."""

import functools
import inspect
import keyword
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import FunctionType, MappingProxyType
from typing import Any

import torch
from torch import Tensor

from torchbase.errors import MetricsError, did_you_mean
from torchbase.metrics.epoch_kinds import declare_as


class BaseMetricsClass:
    """A family of metrics, one per public method, to be subclassed.

    A metric is a method (static and class methods too) whose name starts neither with ``_`` nor with ``get_``; all
    of its parameters are keyword-only, and it returns one number. Over an epoch it is computed from all samples at
    once, unless a decorator of `torchbase.metrics.epoch_kinds` declares otherwise::

        class CountingMetrics(BaseMetricsClass):
            def absolute_error(self, *, counted: Tensor, expected: Tensor) -> float:
                return float((counted - expected).abs().mean())

        CountingMetrics(keyword_maps={"count_of_cells": "counted"})

    Args:
        keyword_maps: From keys of what ``forward_pass`` returns to names of the metrics' arguments. An argument
            that no key is mapped to is looked up under its own name.

    Raises:
        TypeError: ``keyword_maps`` is not a mapping of strings to strings.
        MetricsError: ``keyword_maps`` names an argument that no metric has, maps two keys to one argument or one
            key to two arguments of a metric, or has a key that can't be the name of an argument.
    """

    # A subclass whose own __init__ takes no keyword_maps works without calling this one.
    _key_of_argument: Mapping[str, str] = MappingProxyType({})

    def __init__(self, keyword_maps: Mapping[str, str] | None = None) -> None:
        class_name = type(self).__name__
        methods = _public_methods(self)
        self._key_of_argument = _invert_keyword_maps(class_name, {} if keyword_maps is None else keyword_maps)
        _check_arguments_exist(class_name, self._key_of_argument, methods)
        _check_keys_are_distinct(class_name, self._key_of_argument, methods)

    def get_all_metric_functionals_dict(self) -> dict[str, Callable[..., float]]:
        """Return every metric, each as a function of the keys of ``forward_pass``.

        Returns:
            From the names of the metrics, in the order of their definition, to functions that take the mapped
            keys as keyword arguments, as their signatures show.

        Raises:
            TypeError: A public method has a parameter that isn't keyword-only.
        """
        class_name = type(self).__name__
        return {
            name: _with_mapped_keywords(f"{class_name}.{name}", method, self._key_of_argument)
            for name, method in _public_methods(self).items()
        }

    def get_metrics(self, names: Sequence[str]) -> dict[str, Callable[..., float]]:
        """Return the named metrics, each as a function of the keys of ``forward_pass``.

        Args:
            names: Names of metrics of this class.

        Returns:
            From the names, in the order given, to functions as of ``get_all_metric_functionals_dict``.

        Raises:
            MetricsError: A name is not that of a metric of this class.
            TypeError: A public method has a parameter that isn't keyword-only.
        """
        functionals = self.get_all_metric_functionals_dict()
        unknown = [name for name in names if name not in functionals]
        if unknown:
            raise MetricsError("\n".join(describe_unknown(type(self).__name__, name, functionals) for name in unknown))
        return {name: functionals[name] for name in names}


def describe_unknown(class_name: str, metric_name: str, known: Iterable[str]) -> str:
    """Say that a class has no metric of a name, and which it has."""
    known = list(known)
    hint = did_you_mean(metric_name, known)
    return f"{class_name} has no metric {metric_name!r}.{hint} Its metrics are {list_names(known)}."


def list_names(names: Iterable[object]) -> str:
    """Write names quoted and separated by commas; "nothing" if there are none."""
    return ", ".join(map(repr, names)) or "nothing"


def check_tensors(*, is_floating: bool, **tensors: Tensor) -> None:
    """Check arguments of a metric: tensors of one shape that hold values.

    Args:
        is_floating: Whether they have to be of floating-point dtypes, too.
        **tensors: The arguments, by name.

    Raises:
        TypeError: One isn't a tensor, or not of a floating-point dtype though it has to be.
        ValueError: The shapes differ, or the tensors are empty.
    """
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} has to be a torch.Tensor, but is of type {type(tensor).__name__}: {tensor!r:.80}.")
        if is_floating and not tensor.is_floating_point():
            raise TypeError(
                f"{describe_tensor(name, tensor)} has to be of a floating-point dtype; in forward_pass, convert it "
                "with .float(), and scale its values if they need it."
            )
    described = " and ".join(describe_tensor(name, tensor) for name, tensor in tensors.items())
    if len({tensor.shape for tensor in tensors.values()}) > 1:
        raise ValueError(f"Equal shapes are needed, but {described} differ; reshape one of them in forward_pass.")
    if any(tensor.numel() == 0 for tensor in tensors.values()):
        raise ValueError(f"At least one value is needed, but {described} are empty.")


def check_finite(name: str, tensor: Tensor) -> None:
    """Raise a ValueError if any value of the tensor is NaN or infinite."""
    # Dtypes below 32 bits have few operations.
    values = tensor.detach().float() if tensor.itemsize < 4 else tensor.detach()
    if torch.isfinite(values.sum()):  # nearly always, and the sum is a single pass
        return
    not_finite = ~torch.isfinite(values)
    if not_finite.any():
        raise ValueError(
            f"{describe_tensor(name, tensor)} has to be finite, but {int(not_finite.sum())} of its {tensor.numel()} "
            f"values are not, among them {values[not_finite][:3].tolist()}."
        )


def describe_tensor(name: str, tensor: Tensor) -> str:
    """Name a tensor together with its shape and dtype."""
    return f"{name} (shape {tuple(tensor.shape)}, {tensor.dtype})"


def _public_methods(metrics: BaseMetricsClass) -> dict[str, Callable[..., float]]:
    """Find the methods that are metrics, well-formed or not, a base class's before those of its subclasses."""
    metrics_class = type(metrics)
    names = dict.fromkeys(name for base in reversed(metrics_class.__mro__) for name in vars(base))
    return {
        name: getattr(metrics, name)
        for name in names
        if not name.startswith(("_", "get_"))
        and isinstance(inspect.getattr_static(metrics_class, name), FunctionType | staticmethod | classmethod)
    }


def _invert_keyword_maps(class_name: str, keyword_maps: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(keyword_maps, Mapping):
        raise TypeError(
            f"The keyword_maps of {class_name} have to be a mapping from keys of forward_pass to arguments of its "
            f"metrics, but are of type {type(keyword_maps).__name__}: {keyword_maps!r:.80}."
        )
    key_of_argument: dict[str, str] = {}
    for key, argument in keyword_maps.items():
        where = f"The keyword_maps of {class_name} map {key!r} to {argument!r}"
        if not (isinstance(key, str) and isinstance(argument, str)):
            raise TypeError(f"{where}, but both have to be strings: a key of forward_pass, an argument of a metric.")
        if not key.isidentifier() or keyword.iskeyword(key):
            raise MetricsError(
                f"{where}, but {key!r} can't be the name of a keyword argument; in forward_pass, return the value "
                "under a key of letters, digits and underscores that is no keyword of Python."
            )
        if argument in key_of_argument:
            raise MetricsError(
                f"{where}, but {key_of_argument[argument]!r} is mapped to {argument!r} already; remove one of the two."
            )
        key_of_argument[argument] = key
    return key_of_argument


def _check_arguments_exist(
    class_name: str, key_of_argument: Mapping[str, str], methods: Mapping[str, Callable[..., float]]
) -> None:
    known = dict.fromkeys(name for method in methods.values() for name in inspect.signature(method).parameters)
    for argument, key in key_of_argument.items():
        if argument not in known:
            raise MetricsError(
                f"The keyword_maps of {class_name} map {key!r} to {argument!r}, which no metric has as an argument."
                f"{did_you_mean(argument, known)} The arguments are {list_names(known)}; keyword_maps go from "
                "keys of forward_pass to arguments."
            )


def _check_keys_are_distinct(
    class_name: str, key_of_argument: Mapping[str, str], methods: Mapping[str, Callable[..., float]]
) -> None:
    for name, method in methods.items():
        argument_of_key: dict[str, str] = {}
        for argument in inspect.signature(method).parameters:
            key = key_of_argument.get(argument, argument)
            if key in argument_of_key:
                raise MetricsError(
                    f"{class_name}.{name} would get the key {key!r} of forward_pass as both "
                    f"{argument_of_key[key]!r} and {argument!r}; in keyword_maps, map another key to {key!r}, too."
                )
            argument_of_key[key] = argument


def _with_mapped_keywords(
    label: str, method: Callable[..., float], key_of_argument: Mapping[str, str]
) -> Callable[..., float]:
    signature = inspect.signature(method)
    for parameter in signature.parameters.values():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            raise TypeError(
                f"The parameter {str(parameter)!r} of {label} is not keyword-only, as those of a metric have to be; "
                "list them after a '*', or begin the method's name with '_' if it is no metric."
            )
    argument_of_key = {key_of_argument.get(argument, argument): argument for argument in signature.parameters}
    mapped = signature.replace(
        parameters=[signature.parameters[argument].replace(name=key) for key, argument in argument_of_key.items()]
    )

    # The annotations are left out: they are under the names before the mapping.
    @functools.wraps(method, assigned=("__module__", "__name__", "__qualname__", "__doc__"))
    def functional(**outputs: Any) -> float:
        try:
            bound = mapped.bind(**outputs)
        except TypeError as error:
            raise TypeError(f"{label}{mapped}: {error}.") from error
        return method(**{argument_of_key[key]: value for key, value in bound.arguments.items()})

    functional.__signature__ = mapped  # type: ignore[attr-defined]
    return declare_as(method, functional, argument_of_key)
