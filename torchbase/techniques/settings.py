"""The checks of the numbers that hooks are created with."""

from numbers import Integral, Real


def is_number(value: object) -> bool:
    """Returns whether a setting is a number. A boolean isn't.

    Args:
        value: The setting.
    """
    return isinstance(value, Real) and not isinstance(value, bool)


def is_count(value: object) -> bool:
    """Returns whether a setting is an integer of at least 1. A boolean isn't.

    Args:
        value: The setting.
    """
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1
