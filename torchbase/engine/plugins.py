"""The registry of hooks, and their order."""

from collections.abc import Collection, Iterable, Mapping, Set
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple

import pluggy

from torchbase.engine import hookspecs
from torchbase.engine.events import Event
from torchbase.engine.fired_events import FiredEvents
from torchbase.engine.hook_checks import (
    ARGUMENTS_OF_EVENTS,
    EVENT_NAMES,
    check_hook,
    describe_hook,
    methods_of,
    name_of,
)
from torchbase.engine.logging_errors import LoggingErrors
from torchbase.engine.observed_calls import CallObserver, observes_calls
from torchbase.errors import HookError, nearest_or_all
from torchbase.listeners import Listener


class HookRegistry:
    """Stores hooks by name, in the order in which they are called, and fires events.

    pluggy calls the hook that was registered last first. Here the hook registered first is called first, and its
    wrappers are outermost. So each change builds a new pluggy manager from the list, for the events that the changed
    hook implements. Changes are rare, and firing an event takes no longer.

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
        self._is_main = True
        self._hooks: dict[str, object] = {}
        self._kinds: dict[str, _Kind] = {}
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

    def call_hooks_of(self, is_main: bool) -> None:
        """Sets which hooks are called: all on the main process; elsewhere none that writes or logs.

        Elsewhere, hooks whose attribute ``main_process_only`` is true are not called, and ``log_…`` events do nothing.

        Args:
            is_main: Whether this process is the main process of the run.
        """
        if is_main != self._is_main:
            self._is_main = is_main
            self._rebuild(dict(self._hooks), self._defaults)

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
        self._rebuild(hooks, self._defaults, _events_of(_kind_of(hook)))
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
            raise HookError(f"No hook is named '{name}'.{nearest_or_all(name, self._hooks)}")
        others = {other: hook for other, hook in self._hooks.items() if other != name}
        hook = self._hooks[name]
        self._rebuild(others, self._defaults - {name}, _events_of(self._kinds[name]))
        return hook

    def _rebuild(
        self, hooks: Mapping[str, object], defaults: frozenset[str], changed: Collection[str] = EVENT_NAMES
    ) -> None:
        manager = _Manager(changed)
        kinds = {name: self._kinds[name] if name in self._kinds else _kind_of(hook) for name, hook in hooks.items()}
        called = {name: hook for name, hook in hooks.items() if self._is_main or not is_for_main_process(hook)}
        for name, hook in reversed(list(called.items())):
            methods = [one for one in kinds[name].events if one in changed and (self._is_main or not _logs(one))]
            if not methods:
                continue
            try:
                manager.register(_Implementations(hook, methods), name=name)
            except pluggy.PluginValidationError as error:
                raise HookError(f"The hook '{name}' can't be registered: {error}") from error
        observers = {name: one for name in called if (one := kinds[name].observer) is not None}
        events = {name: Event(name, manager, defaults, self._logging_errors, observers) for name in changed}
        self._hooks.clear()  # both are changed in place, since a run has a view of them
        self._hooks.update(hooks)
        self._kinds = kinds
        self._listeners.update({name: event.listeners for name, event in events.items()})
        self._defaults = defaults
        self._fired.replace({name: event.call for name, event in events.items()})


def is_for_main_process(hook: object) -> bool:
    """Whether a hook is called on the main process only, since its attribute ``main_process_only`` is true.

    Args:
        hook: The hook.
    """
    return getattr(hook, "main_process_only", False) is True


class _Manager(pluggy.PluginManager):
    """Inspects only members that are named like the events, since inspecting a member takes pluggy 20 µs."""

    def __init__(self, events: Collection[str]) -> None:
        super().__init__(hookspecs.PROJECT_NAME)
        self._events = events
        self.add_hookspecs(hookspecs)

    def parse_hookimpl_opts(self, plugin: object, name: str) -> pluggy.HookimplOpts | None:
        return super().parse_hookimpl_opts(plugin, name) if name in self._events else None

    def parse_hookspec_opts(self, module_or_class: ModuleType | type, name: str) -> pluggy.HookspecOpts | None:
        return super().parse_hookspec_opts(module_or_class, name) if name in self._events else None


class _Implementations:
    """The bound methods of a hook that implement some events, as attributes of one object.

    pluggy finds them here at once. On the hook it would search all base classes four times for each method, which takes
    milliseconds for the hooks of a session.
    """

    def __init__(self, hook: object, methods: Iterable[str]) -> None:
        for name in methods:
            setattr(self, name, getattr(hook, name))

    def __dir__(self) -> Iterable[str]:
        return vars(self)  # without the members of object, three times as many


class _Kind(NamedTuple):
    """What is found out about a hook once, since a search of its members takes longer than a change of one event."""

    events: frozenset[str]
    observer: CallObserver | None  # the hook itself, if it observes the calls of others


def _kind_of(hook: object) -> _Kind:
    events = frozenset(methods_of(hook).keys() & ARGUMENTS_OF_EVENTS.keys())
    return _Kind(events, hook if observes_calls(hook) else None)


def _events_of(kind: _Kind) -> Collection[str]:
    """The events whose calls depend on a hook; an observer of calls changes all."""
    return kind.events if kind.observer is None else EVENT_NAMES


def _logs(event: str) -> bool:
    return event.startswith("log_")


def _add(hook: object, name: str, hooks: dict[str, object]) -> None:
    check_hook(hook)
    if name in hooks:
        raise HookError(
            f"A hook named '{name}' is already registered ({describe_hook(hooks[name])}). "
            f"To fix, use another name, register(hook, name='…'), or call unregister('{name}') first."
        )
    for other_name, other in hooks.items():
        if other is hook:
            raise HookError(f"{describe_hook(hook)} is already registered, as '{other_name}'.")
    hooks[name] = hook
