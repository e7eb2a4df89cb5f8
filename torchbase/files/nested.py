"""Values in nested containers, each with its path."""

import copy
from collections.abc import Callable
from typing import Any

Path = tuple[Any, ...]


def map_leaves(value: Any, function: Callable[[Path, Any], Any], path: Path = ()) -> Any:
    """Copies nested containers, and applies a function to each value in them.

    Args:
        value: Values in any nesting of dictionaries, lists and tuples. They stay as they are.
        function: Takes the path of a value, the keys and positions that lead to it, and the value. Returns the new
            value.
        path: The path of ``value``.

    Returns:
        The copy.
    """
    if isinstance(value, dict):
        copied = copy.copy(value)  # keeps the metadata of a module's state_dict
        for key, one in value.items():  # not by update, to which a Counter adds
            copied[key] = map_leaves(one, function, (*path, key))
        return copied
    if isinstance(value, list | tuple):
        items = [map_leaves(one, function, (*path, number)) for number, one in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    return function(path, value)
