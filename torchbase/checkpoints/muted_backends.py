"""Substitutes for logging backends, in trainings that are repeated for a check."""

from collections.abc import Mapping
from typing import Any, Protocol

from torchbase.engine.hookspecs import hookimpl


class HasHooks(Protocol):
    """What hooks are registered with: an engine or a session."""

    @property
    def hooks(self) -> Mapping[str, object]:
        """The registered hooks by name."""

    def register(self, hook: object, name: str | None = None) -> str:
        """Adds a hook."""

    def unregister(self, name: str) -> object:
        """Removes a hook."""


def mute_backends(registry: HasHooks, *others: str) -> None:
    """Replaces each hook that implements a ``log_…`` event by one that does nothing.

    Args:
        registry: The engine or session.
        *others: The names of further hooks to replace, if they are registered.
    """
    for name in [name for name, hook in registry.hooks.items() if name in others or _is_backend(hook)]:
        registry.unregister(name)
        registry.register(_Muted(), name)


def _is_backend(hook: object) -> bool:
    return any(name.startswith("log_") for name in dir(hook))


class _Muted:
    """Logs nothing, and ignores the saved state of the hook that it replaces."""

    @hookimpl
    def on_run_start(self) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass
