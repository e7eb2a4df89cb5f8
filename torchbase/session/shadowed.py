"""Attributes of a session that are computed, and that an attribute of the user's own hides."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")


class shadowed(Generic[Value]):  # noqa: N801, since it is used as property is
    """As `property`, except that a program that has its own attribute of the name may set it."""

    def __init__(self, compute: Callable[[Any], Value]) -> None:
        """Stores the method.

        Args:
            compute: Takes the session, returns the value.
        """
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __get__(self, session: object, owner: type) -> Value:
        """Returns the value for a session.

        Args:
            session: The session, or None for the class.
            owner: The class.
        """
        return self if session is None else self._compute(session)  # type: ignore[return-value]
