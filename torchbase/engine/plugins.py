"""The registry of hooks: their order, and the checks when one is registered."""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Set
from functools import partialmethod
from types import CodeType, MappingProxyType, ModuleType
from typing import Any

import pluggy

from torchbase.engine import hookspecs
from torchbase.engine.deferred_bodies import check_body_runs
from torchbase.engine.events import Event
from torchbase.engine.fired_events import FiredEvents
from torchbase.engine.logging_errors import LoggingErrors
from torchbase.engine.observed_calls import CallObserver
from torchbase.errors import HookError, did_you_mean
from torchbase.listeners import Listener

EVENT_NAMES: tuple[str, ...] = tuple(
    name
    for name, member in vars(hookspecs).items()
    if inspect.isfunction(member) and hasattr(member, f"{hookspecs.PROJECT_NAME}_spec")
)
_ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    name: tuple(inspect.signature(getattr(hookspecs, name)).parameters) for name in EVENT_NAMES
}
_MARK = f"{hookspecs.PROJECT_NAME}_impl"
_STATE_METHODS = ("state_dict", "load_state_dict")


class HookRegistry:
    """Stores hooks by name, in the order in which they are called, and fires events.

    pluggy calls the hook that was registered last first. Here the hook registered first is called first, and its
    wrappers are outermost. So each change builds a new pluggy manager from the list. Changes are rare, and firing an
    event takes no longer.

    Attributes:
        call: The events by name; calling one fires it: ``registry.call.on_run_start(run=run)``.
    """

    def __init__(
        self,
        hooks: Iterable[object] = (),
        defaults: Iterable[object] = (),
        logging_errors: LoggingErrors | None = None,
    ) -> None:
        """Registers hooks under their own names.

        Args:
            hooks: Hooks, in the order in which they are called.
            defaults: Hooks that are called before ``hooks``. Other hooks may replace their ``run_…`` implementations.
            logging_errors: How an error in a ``log_…`` event is handled. By default it is raised.

        Raises:
            HookError: If a hook can't be registered; see `register`.
        """
        self._fired = FiredEvents()
        self.call: Any = self._fired.calls
        self._logging_errors = LoggingErrors("raise") if logging_errors is None else logging_errors
        self._hooks: dict[str, object] = {}
        self._listeners: dict[str, tuple[Listener, ...]] = {}
        self._defaults: frozenset[str] = frozenset()
        named: dict[str, object] = {}
        for hook in defaults:
            _add(hook, name_of(hook), named)
        default_names = frozenset(named)
        for hook in hooks:
            _add(hook, name_of(hook), named)
        self._rebuild(named, default_names)

    @property
    def hooks(self) -> Mapping[str, object]:
        """The hooks by name, in the order in which they are called; read-only."""
        return MappingProxyType(self._hooks)

    @property
    def listeners(self) -> Mapping[str, tuple[Listener, ...]]:
        """The hooks of each event, in the order in which they are called, by event; read-only."""
        return MappingProxyType(self._listeners)

    @property
    def fired_events(self) -> Set[str]:
        """The names of the events that have fired since the last call of `forget_fired_events`; read-only."""
        return self._fired.names

    def forget_fired_events(self) -> None:
        """Starts the record of fired events anew."""
        self._fired.forget()

    def register(self, hook: object, name: str | None = None) -> str:
        """Adds a hook after those that are registered.

        Args:
            hook: An instance, or a module, with methods marked by ``@hookimpl``.
            name: The name of the hook. By default its attribute ``name``, or its class name in snake case.

        Returns:
            The name under which the hook is registered.

        Raises:
            HookError: If the hook is a class. If a method is named like an event and not marked, or marked and not
                named like an event. If a method requires an argument that the event doesn't have. If a method is a
                coroutine, or a generator and not marked as a wrapper. If no event is implemented. If the name is taken.
                If another hook implements the same ``run_…`` event.
        """
        name = name if name is not None else name_of(hook)
        hooks = dict(self._hooks)
        _add(hook, name, hooks)
        self._rebuild(hooks, self._defaults)
        return name

    def unregister(self, name: str) -> object:
        """Removes a hook.

        Args:
            name: The name under which it is registered.

        Returns:
            The hook.

        Raises:
            HookError: If no hook has that name.
        """
        if name not in self._hooks:
            raise HookError(f"No hook is named '{name}'.{_nearest(name, self._hooks)}")
        others = {other: hook for other, hook in self._hooks.items() if other != name}
        hook = self._hooks[name]
        self._rebuild(others, self._defaults - {name})
        return hook

    def _rebuild(self, hooks: Mapping[str, object], defaults: frozenset[str]) -> None:
        manager = _Manager(hookspecs.PROJECT_NAME)
        manager.add_hookspecs(hookspecs)
        for name, hook in reversed(list(hooks.items())):
            try:
                manager.register(_Implementations(hook), name=name)
            except pluggy.PluginValidationError as error:
                raise HookError(f"The hook '{name}' can't be registered: {error}") from error
        observers = {name: hook for name, hook in hooks.items() if isinstance(hook, CallObserver)}
        events = {name: Event(name, manager, defaults, self._logging_errors, observers) for name in EVENT_NAMES}
        self._hooks.clear()  # both are changed in place, since a run has a view of them
        self._hooks.update(hooks)
        self._listeners.update({name: event.listeners for name, event in events.items()})
        self._defaults = defaults
        self._fired.replace({name: event.call for name, event in events.items()})


class _Manager(pluggy.PluginManager):
    """Inspects only members that are named like events, since inspecting a member takes pluggy 20 µs."""

    def parse_hookimpl_opts(self, plugin: object, name: str) -> pluggy.HookimplOpts | None:
        return super().parse_hookimpl_opts(plugin, name) if name in _ARGUMENTS else None

    def parse_hookspec_opts(self, module_or_class: ModuleType | type, name: str) -> pluggy.HookspecOpts | None:
        return super().parse_hookspec_opts(module_or_class, name) if name in _ARGUMENTS else None


class _Implementations:
    """The bound methods of a hook that implement events, as attributes of one object.

    pluggy finds them here at once. On the hook it would search all base classes four times for each method, which takes
    milliseconds for the hooks of a session.
    """

    def __init__(self, hook: object) -> None:
        for name in _routines(_members_of(hook)).keys() & _ARGUMENTS.keys():
            setattr(self, name, getattr(hook, name))


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
            f"The attribute name of {_describe(hook)} is {name!r}, but has to be a string that is not empty. To fix, "
            "set it to a string, or remove it."
        )
    return name


def check_hook(hook: object) -> None:
    """Refuses a hook with a part that pluggy would silently never call.

    Args:
        hook: The hook to register.

    Raises:
        HookError: If the hook is a class. If a method is named like an event and not marked, or marked and not named
            like an event. If a method requires an argument that the event doesn't have. If a method is a coroutine, or
            a generator and not marked as a wrapper. If no event is implemented.
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
        if is_marked and name not in _ARGUMENTS:
            raise HookError(
                f"{_describe(hook)} marks '{name}' with @hookimpl, but there is no such event."
                f"{_nearest(name, EVENT_NAMES)}"
            )
        if not is_marked and name in _ARGUMENTS:
            raise HookError(
                f"{_describe(hook)} has a method '{name}' that is named like an event but not marked, so it would "
                "never be called. To fix, put @hookimpl above it."
            )
        if is_marked:
            _check_arguments(hook, name)
        if is_marked or name in _STATE_METHODS:
            is_wrapper = options is not None and (options["wrapper"] or options["hookwrapper"])
            check_body_runs(method, f"{_describe(hook)}.{name}", is_wrapper=is_wrapper)
        implemented += is_marked
    if not implemented:
        raise HookError(
            f"{_describe(hook)} implements no event, so it would never be called. To fix, mark its methods with "
            "@hookimpl (from torchbase import hookimpl)."
        )


def _add(hook: object, name: str, hooks: dict[str, object]) -> None:
    check_hook(hook)
    if name in hooks:
        raise HookError(
            f"A hook named '{name}' is already registered ({_describe(hooks[name])}). "
            f"To fix, use another name, register(hook, name='…'), or call unregister('{name}') first."
        )
    for other_name, other in hooks.items():
        if other is hook:
            raise HookError(f"{_describe(hook)} is already registered, as '{other_name}'.")
    hooks[name] = hook


def _check_arguments(hook: object, event: str) -> None:
    method, available = getattr(hook, event), _ARGUMENTS[event]
    code = getattr(inspect.unwrap(method), "__code__", None)
    # First the code object, since inspect.signature takes thirty times as long.
    if code is not None and set(_parameters_of(code)) <= {"self", *available}:
        return
    parameters = inspect.signature(method).parameters.values()
    unknown = [one.name for one in parameters if one.default is one.empty and one.name not in available]
    if unknown:
        raise HookError(
            f"{_describe(hook)}.{event} requires {', '.join(map(repr, unknown))}, but the arguments of the event are "
            f"{', '.join(map(repr, available))}. To fix, take only these arguments, by name."
        )


def _parameters_of(code: CodeType) -> tuple[str, ...]:
    with_stars = bool(code.co_flags & inspect.CO_VARARGS) + bool(code.co_flags & inspect.CO_VARKEYWORDS)
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount + with_stars]


def _check_callables(hook: object, members: Mapping[str, Any]) -> None:
    for name, member in members.items():
        is_object = isinstance(member, partialmethod) or (callable(member) and not inspect.isroutine(member))
        if is_object and (name in _ARGUMENTS or _MARK in getattr(member, "__dict__", ())):
            raise HookError(
                f"{_describe(hook)}.{name} is an object of type {type(member).__name__}, and only functions and "
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
    return {name: member for name, member in members.items() if inspect.isroutine(member)}


def _nearest(name: str, known: Mapping[str, object] | tuple[str, ...]) -> str:
    return did_you_mean(name, known) or f" Available: {', '.join(known) or 'none'}."


def _describe(hook: object) -> str:
    return f"the module {hook.__name__}" if isinstance(hook, ModuleType) else f"{type(hook).__name__}"
