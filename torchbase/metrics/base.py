"""The base class of metrics. It finds the metric methods and maps keys of ``forward_pass`` to their arguments."""

import inspect
import keyword
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import FunctionType, MappingProxyType
from typing import TypedDict

import torch
from torch import Tensor

from torchbase.errors import MetricsError, did_you_mean
from torchbase.metrics.mapped_keywords import with_mapped_keywords
from torchbase.metrics.phases import declare_validation_only
from torchbase.metrics.values_at_once import functionals_of


class CommonOptions(TypedDict, total=False):
    """The options that every family of metrics has; see `BaseMetricsClass`."""

    prefix: str | None
    validation_only: bool


class BaseMetricsClass:
    """The base class of a family of metrics. Each public method of a subclass is a metric.

    A metric is a method, static method or class method whose name starts neither with ``_`` nor with ``get_``. All
    of its parameters are keyword-only, and it returns a number. The value of an epoch is computed from all samples of
    the epoch, unless a decorator of `torchbase.metrics.epoch_kinds` declares otherwise::

        class CountingMetrics(BaseMetricsClass):
            def absolute_error(self, *, counted: Tensor, expected: Tensor) -> float:
                return float((counted - expected).abs().mean())

        CountingMetrics(keyword_maps={"count_of_cells": "counted"})

    Args:
        keyword_maps: Maps keys that ``forward_pass`` returns to arguments of the metrics. An argument without a
            mapping uses the key of the same name.
        prefix: A name that precedes those of the metrics, also in the config: with ``"head1"``, the metric ``accuracy``
            is named ``head1_accuracy``. ``init_metrics`` may return several instances of a class with different
            prefixes.
        validation_only: Whether the metrics are computed in validation only. ``forward_pass`` then need not return
            their keys in training.

    Raises:
        TypeError: ``keyword_maps`` is not a mapping of strings to strings, ``prefix`` is not a string, or
            ``validation_only`` is not True or False.
        MetricsError: ``keyword_maps`` contains an argument that no metric has, maps two keys to the same argument or
            one key to two arguments of a metric, or contains a key that is not a valid argument name; or ``prefix``
            has other characters than letters, digits and underscores.
    """

    # So that a subclass without options need not call this __init__.
    _key_of_argument: Mapping[str, str] = MappingProxyType({})
    _prefix: str | None = None
    _validation_only = False

    def __init__(
        self,
        keyword_maps: Mapping[str, str] | None = None,
        *,
        prefix: str | None = None,
        validation_only: bool = False,
    ) -> None:
        class_name = type(self).__name__
        methods = _public_methods(self)
        self._prefix = _check_prefix(class_name, prefix)
        if not isinstance(validation_only, bool):
            raise TypeError(f"validation_only of {class_name} has to be True or False, but got {validation_only!r}.")
        self._validation_only = validation_only
        self._key_of_argument = _invert_keyword_maps(class_name, {} if keyword_maps is None else keyword_maps)
        _check_arguments_exist(class_name, self._key_of_argument, methods)
        _check_keys_are_distinct(class_name, self._key_of_argument, methods)

    def get_all_metric_functionals_dict(self) -> dict[str, Callable[..., float]]:
        """Returns all metrics as functions of keys of ``forward_pass``.

        Returns:
            A dictionary from metric names, with the prefix, in the order of definition, to functions. The functions
            take the mapped keys as keyword arguments; their signatures list them.

        Raises:
            TypeError: A public method has a parameter that is not keyword-only.
            MetricsError: Two metrics have the same name, or a method is declared to return several values and a figure.
        """
        class_name = type(self).__name__
        before = "" if self._prefix is None else f"{self._prefix}_"
        functionals: dict[str, Callable[..., float]] = {}
        for method_name, method in _public_methods(self).items():
            label = f"{class_name}.{method_name}"
            whole = with_mapped_keywords(label, method, self._key_of_argument)
            for name, functional in functionals_of(method_name, label, whole).items():
                if f"{before}{name}" in functionals:
                    raise MetricsError(f"{class_name} has two metrics {name!r}. To fix, rename one of them.")
                functionals[f"{before}{name}"] = functional
        if self._validation_only:
            for functional in functionals.values():
                declare_validation_only(functional)
        return functionals

    def get_prefix(self) -> str | None:
        """Returns the name that precedes those of the metrics, or None."""
        return self._prefix

    def get_metrics(self, names: Sequence[str]) -> dict[str, Callable[..., float]]:
        """Returns the named metrics as functions of keys of ``forward_pass``.

        Args:
            names: Names of metrics of this class.

        Returns:
            A dictionary from the names, in the order of ``names``, to functions as in
            ``get_all_metric_functionals_dict``.

        Raises:
            MetricsError: This class has no metric of that name.
            TypeError: A public method has a parameter that is not keyword-only.
        """
        functionals = self.get_all_metric_functionals_dict()
        unknown = [name for name in names if name not in functionals]
        if unknown:
            raise MetricsError("\n".join(describe_unknown(type(self).__name__, name, functionals) for name in unknown))
        return {name: functionals[name] for name in names}


def describe_unknown(class_name: str, metric_name: str, known: Iterable[str]) -> str:
    """Returns a message: the class has no metric of this name, and which metrics it has."""
    known = list(known)
    hint = did_you_mean(metric_name, known)
    return f"{class_name} has no metric {metric_name!r}.{hint} Available: {list_names(known)}."


def list_names(names: Iterable[object]) -> str:
    """Joins quoted names with commas; returns "nothing" if there are none."""
    return ", ".join(map(repr, names)) or "nothing"


def check_tensors(*, is_floating: bool, **tensors: Tensor) -> None:
    """Checks that the arguments of a metric are non-empty tensors of the same shape.

    Args:
        is_floating: Whether their dtypes have to be floating-point.
        **tensors: The arguments, by name.

    Raises:
        TypeError: An argument is not a tensor, or its dtype has to be floating-point and is not.
        ValueError: The shapes differ, or the tensors are empty.
    """
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} has to be a torch.Tensor, but got {type(tensor).__name__}: {tensor!r:.80}.")
        if is_floating and not tensor.is_floating_point():
            raise TypeError(
                f"{describe_tensor(name, tensor)} has to have a floating-point dtype. To fix, convert it with .float() "
                "in forward_pass, and scale its values if needed."
            )
    described = " and ".join(describe_tensor(name, tensor) for name, tensor in tensors.items())
    if len({tensor.shape for tensor in tensors.values()}) > 1:
        raise ValueError(f"The shapes of {described} have to be equal. To fix, reshape one of them in forward_pass.")
    if any(tensor.numel() == 0 for tensor in tensors.values()):
        raise ValueError(f"At least one value is expected, but got empty tensors: {described}.")


def check_finite(name: str, tensor: Tensor) -> None:
    """Checks that no value of a tensor is NaN or infinite.

    Args:
        name: The name of the tensor, for the message.
        tensor: The tensor.

    Raises:
        ValueError: A value is NaN or infinite.
    """
    # Dtypes below 32 bits support few operations.
    values = tensor.detach().float() if tensor.itemsize < 4 else tensor.detach()
    if torch.isfinite(values.sum()):  # the usual case, and the sum is a single pass
        return
    not_finite = ~torch.isfinite(values)
    if not_finite.any():
        raise ValueError(
            f"{describe_tensor(name, tensor)} has to be finite, but {int(not_finite.sum())} of its {tensor.numel()} "
            f"values are not, for example {values[not_finite][:3].tolist()}."
        )


def describe_tensor(name: str, tensor: Tensor) -> str:
    """Returns the name of a tensor with its shape and dtype."""
    return f"{name} (shape {tuple(tensor.shape)}, {tensor.dtype})"


def _public_methods(metrics: BaseMetricsClass) -> dict[str, Callable[..., float]]:
    """Finds the methods that are metrics, valid or not. Those of a base class come before those of its subclasses."""
    metrics_class = type(metrics)
    names = dict.fromkeys(name for base in reversed(metrics_class.__mro__) for name in vars(base))
    return {
        name: getattr(metrics, name)
        for name in names
        if not name.startswith(("_", "get_"))
        and isinstance(inspect.getattr_static(metrics_class, name), FunctionType | staticmethod | classmethod)
    }


def _check_prefix(class_name: str, prefix: object) -> str | None:
    if prefix is None:
        return None
    if not isinstance(prefix, str):
        raise TypeError(f"prefix of {class_name} has to be a string or None, but got {prefix!r:.80}.")
    if not re.fullmatch(r"\w+", prefix):
        raise MetricsError(
            f"The prefix of {class_name} is {prefix!r}, but it has to consist of letters, digits and underscores, "
            "since it is part of the names of metrics. To fix, choose one such as 'head1'."
        )
    return prefix


def _invert_keyword_maps(class_name: str, keyword_maps: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(keyword_maps, Mapping):
        raise TypeError(
            f"The keyword_maps of {class_name} have to be a mapping from keys of forward_pass to arguments of its "
            f"metrics, but got {type(keyword_maps).__name__}: {keyword_maps!r:.80}."
        )
    key_of_argument: dict[str, str] = {}
    for key, argument in keyword_maps.items():
        where = f"The keyword_maps of {class_name} map {key!r} to {argument!r}"
        if not (isinstance(key, str) and isinstance(argument, str)):
            raise TypeError(f"{where}, but both have to be strings: a key of forward_pass and an argument of a metric.")
        if not key.isidentifier() or keyword.iskeyword(key):
            raise MetricsError(
                f"{where}, but {key!r} is not a valid name of a keyword argument. To fix, let forward_pass return the "
                "value under a key of letters, digits and underscores that is not a keyword of Python."
            )
        if argument in key_of_argument:
            raise MetricsError(
                f"{where}, but {key_of_argument[argument]!r} is already mapped to {argument!r}. To fix, remove one of "
                "the two."
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
                f"The keyword_maps of {class_name} map {key!r} to {argument!r}, but no metric has an argument of that "
                f"name.{did_you_mean(argument, known)} Available: {list_names(known)}. keyword_maps map keys of "
                "forward_pass to arguments."
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
                    f"The key {key!r} of forward_pass is mapped to two arguments of {class_name}.{name}, "
                    f"{argument_of_key[key]!r} and {argument!r}. To fix, map another key to {key!r} in keyword_maps."
                )
            argument_of_key[key] = argument
