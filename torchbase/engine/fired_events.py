"""Records which events have fired, at no cost: the first call of an event replaces itself by a plain call."""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any


class FiredEvents:
    """The functions that fire events, and the names of the events that have fired.

    Attributes:
        calls: A namespace with one function per event.
        names: The events that have fired since the last call of `forget`.
    """

    def __init__(self) -> None:
        self.calls: Any = SimpleNamespace()
        self.names: set[str] = set()
        self._functions: dict[str, Callable[..., Any]] = {}

    def replace(self, functions: Mapping[str, Callable[..., Any]]) -> None:
        """Sets the functions that fire some events.

        Args:
            functions: The functions, by the name of the event.
        """
        self._functions.update(functions)
        for name, function in functions.items():
            setattr(self.calls, name, function if name in self.names else self._first(name))

    def forget(self) -> None:
        """Starts the record anew."""
        self.names.clear()
        self.replace(self._functions)

    def _first(self, name: str) -> Callable[..., Any]:
        def call(**arguments: Any) -> Any:
            self.names.add(name)
            function = self._functions[name]
            setattr(self.calls, name, function)
            return function(**arguments)

        return call
