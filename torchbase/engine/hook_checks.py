"""The checks of a hook when it is registered: each of its parts has to be one that is called."""

import inspect
import re
from collections.abc import Callable, Mapping
from functools import partialmethod
from types import CodeType, FunctionType, ModuleType
from typing import Any

from torchbase.engine import hookspecs
from torchbase.engine.deferred_bodies import check_body_runs
from torchbase.errors import HookError, nearest_or_all

EVENT_NAMES: tuple[str, ...] = tuple(
    name
    for name, member in vars(hookspecs).items()
    if inspect.isfunction(member) and hasattr(member, f"{hookspecs.PROJECT_NAME}_spec")
)
ARGUMENTS_OF_EVENTS: Mapping[str, tuple[str, ...]] = {
    name: tuple(inspect.signature(getattr(hookspecs, name)).parameters) for name in EVENT_NAMES
}
_ALL_ARGUMENTS = frozenset(argument for arguments in ARGUMENTS_OF_EVENTS.values() for argument in arguments)
_MARK = f"{hookspecs.PROJECT_NAME}_impl"
_VALUES = (str, int, float, dict, list, tuple, type(None))
_STATE_METHODS = ("state_dict", "load_state_dict")


def name_of(hook: object) -> str:
    """Returns the default name of a hook.

    Args:
        hook: An instance or a module.

    Returns:
        The attribute ``name`` of an instance, or its class name in snake case. The name of a module.

    Raises:
        HookError: If the attribute ``name`` isn't a string, or is empty.
    """
    if isinstance(hook, ModuleType):
        return hook.__name__.rpartition(".")[2]
    name = getattr(hook, "name", None)
    if name is None:
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", type(hook).__name__)
        return words.lower().lstrip("_")
    if not isinstance(name, str) or not name:
        raise HookError(
            f"The attribute name of {describe_hook(hook)} is {name!r}, but has to be a string that is not empty. "
            "To fix, set it to a string, or remove it."
        )
    return name


def check_hook(hook: object) -> None:
    """Refuses a hook with a part that pluggy would silently never call.

    Args:
        hook: The hook to register.

    Raises:
        HookError: If the hook is a class. If a method is named like an event and not marked, or marked and not named
            like an event. If a method lacks ``self``, or requires an argument that the event doesn't have. If a method
            is a coroutine, or a generator and not marked as a wrapper. If no event is implemented.
    """
    if inspect.isclass(hook):
        raise HookError(
            f"{hook.__name__} is a class, and a hook has to be an instance. To fix, add parentheses: {hook.__name__}()."
        )
    members = _members_of(hook)
    _check_callables(hook, members)
    implemented = 0
    for name, method in _routines(members).items():
        options = getattr(method, _MARK, None)
        is_marked = options is not None
        if is_marked and name not in ARGUMENTS_OF_EVENTS:
            raise HookError(
                f"{describe_hook(hook)} marks '{name}' with @hookimpl, but there is no such event."
                f"{nearest_or_all(name, EVENT_NAMES)}"
            )
        if not is_marked and name in ARGUMENTS_OF_EVENTS:
            raise HookError(
                f"{describe_hook(hook)} has a method '{name}' that is named like an event but not marked, so it would "
                "never be called. To fix, put @hookimpl above it."
            )
        if is_marked:
            _check_arguments(hook, name)
        if is_marked or name in _STATE_METHODS:
            is_wrapper = options is not None and (options["wrapper"] or options["hookwrapper"])
            check_body_runs(method, f"{describe_hook(hook)}.{name}", is_wrapper=is_wrapper)
        implemented += is_marked
    if not implemented:
        raise HookError(
            f"{describe_hook(hook)} implements no event, so it would never be called. To fix, mark its methods with "
            "@hookimpl (from torchbase import hookimpl)."
        )


def methods_of(hook: object) -> dict[str, Callable[..., Any]]:
    """Returns the methods of a hook by name, without evaluating its properties.

    Args:
        hook: An instance or a module.
    """
    return _routines(_members_of(hook))


def describe_hook(hook: object) -> str:
    """Returns the name of a hook's class, or of a module, for a message."""
    return f"the module {hook.__name__}" if isinstance(hook, ModuleType) else f"{type(hook).__name__}"


def _check_arguments(hook: object, event: str) -> None:
    method, available = getattr(hook, event), ARGUMENTS_OF_EVENTS[event]
    _check_self(hook, method, event)
    code = getattr(inspect.unwrap(method), "__code__", None)
    # First the code object, since inspect.signature takes thirty times as long.
    if code is not None and set(_parameters_of(code)) <= {"self", *available}:
        return
    parameters = inspect.signature(method).parameters.values()
    unknown = [one.name for one in parameters if one.default is one.empty and one.name not in available]
    if unknown:
        raise HookError(
            f"{describe_hook(hook)}.{event} requires {', '.join(map(repr, unknown))}, but the arguments of the event "
            f"are {', '.join(map(repr, available))}. To fix, take only these arguments, by name."
        )


def _check_self(hook: object, method: Callable[..., Any], event: str) -> None:
    function = getattr(method, "__func__", None)
    code = getattr(function, "__code__", None)
    if code is not None and code.co_varnames[: code.co_argcount][:1] and code.co_varnames[0] in _ALL_ARGUMENTS:
        raise HookError(
            f"{describe_hook(hook)}.{event} has the first argument {code.co_varnames[0]!r}, which would be the hook "
            f"itself. To fix, put self before it: def {event}(self, …)."
        )


def _parameters_of(code: CodeType) -> tuple[str, ...]:
    with_stars = bool(code.co_flags & inspect.CO_VARARGS) + bool(code.co_flags & inspect.CO_VARKEYWORDS)
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount + with_stars]


def _check_callables(hook: object, members: Mapping[str, Any]) -> None:
    for name, member in members.items():
        is_object = isinstance(member, partialmethod) or (callable(member) and not inspect.isroutine(member))
        if is_object and (name in ARGUMENTS_OF_EVENTS or _MARK in getattr(member, "__dict__", ())):
            raise HookError(
                f"{describe_hook(hook)}.{name} is an object of type {type(member).__name__}, and only functions and "
                "methods are called. To fix, define a method that calls it."
            )


def _members_of(hook: object) -> dict[str, Any]:
    # Without evaluating properties, which may need attributes that are set later, and without the members of object.
    members: dict[str, Any] = {}
    for origin in (*type(hook).__mro__[-2::-1], hook):
        members.update(getattr(origin, "__dict__", {}))
    return {
        name: member.__func__ if isinstance(member, staticmethod | classmethod) else member
        for name, member in members.items()
    }


def _routines(members: Mapping[str, Any]) -> dict[str, Callable[..., Any]]:
    # First the type of most members, since inspect.isroutine takes ten times as long.
    return {
        name: member
        for name, member in members.items()
        if isinstance(member, FunctionType) or (not isinstance(member, _VALUES) and inspect.isroutine(member))
    }
