"""The hooks of each event, in the order in which they are called, without the hooks themselves."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType


@dataclass(frozen=True)
class Listener:
    """A hook that implements an event.

    Attributes:
        name: The name under which it is registered.
        is_wrapper: Whether it wraps the listeners after it.
    """

    name: str
    is_wrapper: bool


@dataclass(frozen=True)
class HookOrder:
    """A description of the hooks of an engine.

    Attributes:
        classes: The class or module of each hook by the name of the hook, in the order of registration.
        events: The hooks of each event, in the order in which they are called, by event. Events without hooks are
            left out.
    """

    classes: Mapping[str, str]
    events: Mapping[str, tuple[Listener, ...]]


def without_wrappers(listeners: Iterable[Listener]) -> list[str]:
    """Returns the names of the hooks that do the work of an event, not those that wrap it.

    Args:
        listeners: The hooks of the event.
    """
    return [listener.name for listener in listeners if not listener.is_wrapper]


def order_of(hooks: Mapping[str, object], listeners: Mapping[str, tuple[Listener, ...]]) -> HookOrder:
    """Describes the hooks of an engine.

    Args:
        hooks: The hooks by name, in the order of registration.
        listeners: The hooks of each event, in the order in which they are called, by event.

    Returns:
        The description.
    """
    classes = {name: _class_name_of(hook) for name, hook in hooks.items()}
    return HookOrder(classes, {event: called for event, called in listeners.items() if called})


def _class_name_of(hook: object) -> str:
    if isinstance(hook, ModuleType):
        return hook.__name__
    return f"{type(hook).__module__}.{type(hook).__qualname__}"
