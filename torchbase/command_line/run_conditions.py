"""Conditions by which the runs of a folder are filtered, such as ``session.learning_rate<0.01``."""

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torchbase.command_line.run_keys import Key, ListedRun, find_key
from torchbase.command_line.terminal import format_value
from torchbase.errors import RunDirectoryError

_OPERATORS = r"(<=|>=|!=|==|=|<|>)"
_REST = re.compile(rf"\s*{_OPERATORS}\s*(.+)", re.DOTALL)
_ANY = re.compile(rf"(.+?)\s*{_OPERATORS}\s*(.+)", re.DOTALL)
_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def select_runs(runs: Iterable[ListedRun], conditions: Iterable[str], known: Mapping[str, Key]) -> list[ListedRun]:
    """Selects the runs that meet all conditions.

    Args:
        runs: The runs.
        conditions: Texts of a key, an operator and a value. The operators are =, !=, <, <=, > and >=; == is =. A run
            that has nothing for the key meets only ``!=``, and ``= null``.
        known: The keys by name.

    Returns:
        The runs in their order.

    Raises:
        RunDirectoryError: If a condition has another form, or an unknown key, or compares what has no order.
    """
    tests = [_parse(condition.strip(), known) for condition in conditions]
    return [run for run in runs if all(test(run) for test in tests)]


def _parse(condition: str, known: Mapping[str, Key]) -> Callable[[ListedRun], bool]:
    key, symbol, text = _split(condition, known)
    value = key.parse(text)
    if symbol in ("=", "=="):
        return lambda run: _are_equal(key.value_of(run), value, text)
    if symbol == "!=":
        return lambda run: not _are_equal(key.value_of(run), value, text)
    return lambda run: _are_ordered(key, key.value_of(run), symbol, value)


def _split(condition: str, known: Mapping[str, Key]) -> tuple[Key, str, str]:
    # The keys of a config can have the signs of the operators in them.
    for name in sorted(filter(condition.startswith, known), key=len, reverse=True):
        found = _REST.fullmatch(condition, len(name))
        if found is not None:
            return known[name], found[1], found[2]
    found = _ANY.fullmatch(condition)
    if found is None:
        raise RunDirectoryError(
            f"Can't read the condition {condition!r}. A condition has a key, one of = != < <= > >=, and a value. To "
            "fix, write it as in --where 'session.learning_rate<0.01'; quotes protect it from the shell."
        )
    return find_key(found[1], known), found[2], found[3]


def _are_equal(value: object, expected: object, text: str) -> bool:
    if value is None or expected is None:
        return value is expected
    if isinstance(value, bool) or isinstance(expected, bool):
        return value is expected
    if isinstance(value, float) and isinstance(expected, float) and math.isnan(value):
        return math.isnan(expected)
    return value == expected or text == (value if isinstance(value, str) else format_value(value))


def _are_ordered(key: Key, value: object, symbol: str, bound: object) -> bool:
    if value is None:
        return False
    if _is_number(value) and _is_number(bound):
        return _ORDERS[symbol](value, bound)
    if isinstance(value, str):
        return isinstance(bound, str) and _ORDERS[symbol](value, bound)
    reason = f"{bound!r} isn't a number" if _is_number(value) else f"{format_value(value)} has no order"
    raise RunDirectoryError(
        f"Can't compare {key.name!r} by {symbol}, since {reason}. To fix, compare it by = or !=, or with a number "
        "(times and durations are in seconds)."
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
