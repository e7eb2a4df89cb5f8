"""Copies of dictionaries that keep their class, such as ``BatchEncoding`` of transformers."""

import copy
from collections.abc import Mapping, MutableMapping
from typing import Any


def with_values(mapping: Mapping[Any, Any], values: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """Returns a copy of a dictionary with other values.

    Args:
        mapping: The dictionary, of any class.
        values: Its new values, by all of its keys.

    Returns:
        A dictionary of the same class with the same attributes; a plain one if that of ``mapping`` can't be changed.
    """
    if type(mapping) is dict or not isinstance(mapping, MutableMapping):
        return dict(values)
    copied = copy.copy(mapping)
    for name, value in values.items():
        copied[name] = value
    return copied
