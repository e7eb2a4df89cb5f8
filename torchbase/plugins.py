"""The registered hooks: their order, and the slips that are refused."""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType, ModuleType, SimpleNamespace
from typing import Any

import pluggy

from torchbase import hookspecs
from torchbase.errors import HookError, did_you_mean
from torchbase.events import Event

EVENT_NAMES: tuple[str, ...] = tuple(
    name
    for name, member in vars(hookspecs).items()
    if inspect.isfunction(member) and hasattr(member, f"{hookspecs.PROJECT_NAME}_spec")
)


ENTRY_POINT_GROUP = "torchbase.hooks"
_OF_EVERY_OBJECT = frozenset(dir(object))


class HookRegistry:
    """Keeps hooks by name, in the order in which they run, and tells them events.

    pluggy calls the last registered first; here the hook listed first runs first, and its wrappers stand outermost. So
    each change builds a pluggy manager anew from the list. That is rare, and telling an event is not slowed by it.

    Attributes:
        call: The events, callable by name: ``registry.call.on_run_start(run=run)``.
    """

    def __init__(self, hooks: Iterable[object] = (), defaults: Iterable[object] = ()) -> None:
        """Registers hooks under their own names.

        Args:
            hooks: Hooks, in the order in which they run.
            defaults: Hooks that come before those, and whose ``run_…`` implementations any of them may replace.

        Raises:
            HookError: As `register` does.
        """
        self.call: Any = SimpleNamespace()
        self._hooks: dict[str, object] = {}
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
        """The hooks by name, in the order in which they run; read-only."""
        return MappingProxyType(self._hooks)

    def register(self, hook: object, name: str | None = None) -> str:
        """Adds a hook behind those that are there.

        Args:
            hook: An instance, or a module, with methods marked by ``@hookimpl``.
            name: Its name; without one its ``name`` attribute, else its class name in snake case.

        Returns:
            The name under which it is registered.

        Raises:
            HookError: If the hook is a class, has a method named like an event without the marker, marks a method
                that is no event, takes an argument that the event doesn't have, implements nothing, has a name that
                is taken, or does the same ``run_…`` as another hook.
        """
        name = name if name is not None else name_of(hook)
        hooks = dict(self._hooks)
        _add(hook, name, hooks)
        self._rebuild(hooks, self._defaults)
        return name

    def unregister(self, name: str) -> object:
        """Takes a hook out.

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
                manager.register(hook, name=name)
            except pluggy.PluginValidationError as error:
                raise HookError(f"The hook '{name}' can't be registered: {error}") from error
        events = {name: Event(name, manager, defaults) for name in EVENT_NAMES}
        self._hooks.clear()  # changed in place: a run keeps a view of it
        self._hooks.update(hooks)
        self._defaults = defaults
        for name, event in events.items():
            setattr(self.call, name, event.call)


class _Manager(pluggy.PluginManager):
    """Looks at no more of a hook than what is named like an event; looking at a member takes pluggy 20 µs."""

    def parse_hookimpl_opts(self, plugin: object, name: str) -> pluggy.HookimplOpts | None:
        return super().parse_hookimpl_opts(plugin, name) if name in EVENT_NAMES else None


def load_plugin(name: str) -> object:
    """Makes a hook that an installed package offers under the entry-point group ``torchbase.hooks``.

    Args:
        name: The name of the entry point. It refers to a class, or a function, that is called without arguments.

    Returns:
        The hook.

    Raises:
        HookError: If no installed package offers one of that name, or several do; if it can't be imported or made, with
            the error that was raised as its cause; if what it gives can't be registered.
    """
    found = _find_plugin(name)
    package = f"{found.dist.name} {found.dist.version}" if found.dist is not None else "a package without a name"
    plugin = f"The plugin '{name}' of {package} ({found.value})"
    try:
        factory = found.load()
    except Exception as error:  # a module may raise anything
        raise HookError(
            f"{plugin} can't be imported: {type(error).__name__}: {error}. To fix, install what it needs, or another "
            "version of it, or take its name out of session.plugins."
        ) from error
    try:
        hook: object = factory()
    except Exception as error:
        raise HookError(
            f"{plugin} can't be made: {type(error).__name__}: {error}. It is called without arguments. To fix, give "
            "each of them a default; settings are read from run.config when the run starts."
        ) from error
    try:
        check_hook(hook)
    except HookError as error:
        raise HookError(f"{plugin} can't be registered: {error}") from error
    return hook


def _find_plugin(name: str) -> EntryPoint:
    offered = entry_points(group=ENTRY_POINT_GROUP)
    found = list(offered.select(name=name))
    if not found:
        raise HookError(
            f"No installed package offers a plugin '{name}'.{_nearest(name, tuple(sorted(offered.names)))} "
            "To fix, install the package, or take the name out of session.plugins."
        )
    if len(found) > 1:
        packages = ", ".join(one.dist.name if one.dist is not None else one.value for one in found)
        raise HookError(f"Several packages offer a plugin '{name}': {packages}. To fix, uninstall all but one.")
    return found[0]


def name_of(hook: object) -> str:
    """Gives a hook's own name.

    Args:
        hook: An instance or a module.

    Returns:
        Its ``name`` attribute, else its class name (or the module's) in snake case.

    Raises:
        HookError: If the ``name`` attribute isn't a string with something in it.
    """
    if isinstance(hook, ModuleType):
        return hook.__name__.rpartition(".")[2]
    name = getattr(hook, "name", None)
    if name is None:
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", type(hook).__name__)
        return words.lower().lstrip("_")
    if not isinstance(name, str) or not name:
        raise HookError(f"The name of {_describe(hook)} has to be a string with something in it, and is {name!r}.")
    return name


def check_hook(hook: object) -> None:
    """Refuses what pluggy would silently never call.

    Args:
        hook: What is to be registered.

    Raises:
        HookError: If it is a class, has a method named like an event without the marker, marks a method that is no
            event, or implements nothing.
    """
    if inspect.isclass(hook):
        raise HookError(
            f"{hook.__name__} is a class, and a hook is an instance. To fix, register {hook.__name__}(): "
            "were the parentheses forgotten?"
        )
    implemented = 0
    for name, method in _methods_of(hook):
        is_marked = getattr(method, f"{hookspecs.PROJECT_NAME}_impl", None) is not None
        if is_marked and name not in EVENT_NAMES:
            raise HookError(
                f"{_describe(hook)} marks '{name}' with @hookimpl, and there is no such event."
                f"{_nearest(name, EVENT_NAMES)}"
            )
        if not is_marked and name in EVENT_NAMES:
            raise HookError(
                f"{_describe(hook)} has a method '{name}', named like an event, that is not marked, so it would never "
                f"be called. To fix, put @hookimpl above it."
            )
        if is_marked:
            _check_arguments(hook, name)
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
            f"A hook named '{name}' is registered already ({_describe(hooks[name])}). "
            f"To fix, give this one another name, register(hook, name='…'), or unregister('{name}') first."
        )
    for other_name, other in hooks.items():
        if other is hook:
            raise HookError(f"{_describe(hook)} is registered already, as '{other_name}'.")
    hooks[name] = hook


def _check_arguments(hook: object, event: str) -> None:
    given = _given_by(event)
    asked = inspect.signature(getattr(hook, event)).parameters.values()
    unknown = [one.name for one in asked if one.default is one.empty and one.name not in given]
    if unknown:
        raise HookError(
            f"{_describe(hook)}.{event} asks for {', '.join(map(repr, unknown))}, and the event gives "
            f"{', '.join(map(repr, given))}. To fix, take only what it gives, by name."
        )


@cache
def _given_by(event: str) -> tuple[str, ...]:
    return tuple(inspect.signature(getattr(hookspecs, event)).parameters)


def _methods_of(hook: object) -> list[tuple[str, Callable[..., Any]]]:
    # Looked up without evaluating properties: they may need what is built later. What every object has is left out.
    methods: list[tuple[str, Callable[..., Any]]] = []
    for name in dir(hook):
        if name in _OF_EVERY_OBJECT:
            continue
        member = inspect.getattr_static(hook, name)
        if isinstance(member, staticmethod | classmethod):
            member = member.__func__
        if inspect.isroutine(member):
            methods.append((name, member))
    return methods


def _nearest(name: str, known: Mapping[str, object] | tuple[str, ...]) -> str:
    return did_you_mean(name, known) or f" There are: {', '.join(known) or 'none'}."


def _describe(hook: object) -> str:
    return f"the module {hook.__name__}" if isinstance(hook, ModuleType) else f"{type(hook).__name__}"
