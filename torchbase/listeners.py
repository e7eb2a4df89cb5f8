"""Which hooks an event is told to, and in which order."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType


@dataclass(frozen=True)
class Listener:
    """A hook that an event is told to.

    Attributes:
        name: The name under which it is registered.
        is_wrapper: Whether it goes around what the listeners behind it do.
    """

    name: str
    is_wrapper: bool


@dataclass(frozen=True)
class HookOrder:
    """The hooks of an engine, described.

    Attributes:
        classes: By the name of each hook, in the order of their registration, its class or module.
        events: By event, the hooks that it is told to, in the order in which they are called; no event without any.
    """

    classes: Mapping[str, str]
    events: Mapping[str, tuple[Listener, ...]]


def order_of(hooks: Mapping[str, object], listeners: Mapping[str, tuple[Listener, ...]]) -> HookOrder:
    """Describes the hooks of an engine.

    Args:
        hooks: The hooks by name, in the order of their registration.
        listeners: By event, the hooks that it is told to.

    Returns:
        The description.
    """
    classes = {name: _kind_of(hook) for name, hook in hooks.items()}
    return HookOrder(classes, {event: told for event, told in listeners.items() if told})


def _kind_of(hook: object) -> str:
    if isinstance(hook, ModuleType):
        return hook.__name__
    return f"{type(hook).__module__}.{type(hook).__qualname__}"
