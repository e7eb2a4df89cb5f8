"""Attributes that the constructor of a session sets, with an error for a subclass that doesn't call it."""

from typing import Any


class _SetByConstructor:
    """The attribute of the class, which that of an instance hides: only a session without it comes here."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, session: object, owner: type) -> Any:
        if session is None:
            return self
        kind = type(session).__name__
        raise AttributeError(
            f"{kind} has no '{self._name}' yet, since the constructor of TrainingBaseSession sets it and hasn't been "
            f"called. To fix, begin {kind}.__init__ with super().__init__(config)."
        )


def set_by_constructor() -> Any:
    """Returns the value of a class attribute: reading it in an instance without its own value is an error.

    Raises:
        AttributeError: If the constructor hasn't set the attribute of an instance. It says how to fix that.
    """
    return _SetByConstructor()
