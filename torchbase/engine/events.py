"""One event: how the hooks that implement it are called.

pluggy calls the hooks. An `Event` adds three things. It uses the return values as the first word of the event's name
requires. It adds the name of the hook to an error. And it avoids work: an event without hooks is a function that does
nothing, and if return values are ignored and there is no wrapper, the hooks are called without pluggy. In a ``log_…``
event an error may become a warning; the hooks after the one that raised it are still called.
"""

from collections.abc import Callable, Collection, Mapping, Sequence, Set
from operator import itemgetter
from types import FrameType, MappingProxyType, TracebackType
from typing import Any

import pluggy

from torchbase.engine.deferred_bodies import checked_call
from torchbase.engine.logging_errors import LoggingErrors
from torchbase.engine.observed_calls import CallObserver, observed
from torchbase.errors import HookError
from torchbase.listeners import Listener

NOTE = "in the hook"
PARTS = "mini_batch_parts"  # the hook that runs an iteration in parts


class Event:
    """An event and the hooks that implement it.

    Attributes:
        name: The name of the event. Its first word determines how return values are used.
        listeners: The hooks in the order in which they are called. For a ``run_…`` event, without the defaults that
            another hook replaces.
        call: Fires the event. Takes its arguments by keyword.
    """

    def __init__(
        self,
        name: str,
        manager: pluggy.PluginManager,
        defaults: Set[str],
        logging_errors: LoggingErrors,
        observers: Mapping[str, CallObserver] = MappingProxyType({}),
    ) -> None:
        """Chooses how the hooks are called.

        Args:
            name: The name of the event.
            manager: pluggy's manager, with all hooks registered.
            defaults: The names of the hooks whose ``run_…`` implementations other hooks may replace.
            logging_errors: How an error in a ``log_…`` event is handled.
            observers: The hooks that observe each call of the other hooks, by name.

        Raises:
            HookError: If two hooks that aren't defaults implement the same ``run_…`` event.
        """
        self.name = name
        self._caller: Callable[..., Any] = getattr(manager.hook, name)
        self._defaults = defaults
        self._logging_errors = logging_errors
        self._implementations = getattr(manager.hook, name).get_hookimpls()
        self._functions = {one.plugin_name: one.function for one in self._implementations}
        for one in self._implementations:
            if not _is_wrapper(one):
                one.function = checked_call(one.function, f"{name} of the hook '{one.plugin_name}'")
        for observer in observers.values():
            self._observe(observer, except_for=observers)
        self.listeners = tuple(_listener(one) for one in reversed(self._implementations))
        self.call = self._choose_call(manager)

    def _observe(self, observer: CallObserver, except_for: Collection[str]) -> None:
        for one in self._implementations:
            if one.plugin_name not in except_for:
                one.function = observed(one.function, observer, one.plugin_name, self.name, _is_wrapper(one))

    def _choose_call(self, manager: pluggy.PluginManager) -> Callable[..., Any]:
        kind = self.name.partition("_")[0]
        if kind == "run":
            return self._choose_run(manager)
        if kind == "compute":
            return self._compute if self._implementations else _compute_nothing
        if not self._implementations:
            return _do_nothing
        has_wrapper = any(_is_wrapper(one) for one in self._implementations)
        if kind == "log" and self._logging_errors.policy == "warn":
            return self._log_through_wrappers if has_wrapper else self._make_log_call()
        return self._make_direct_call() if kind in ("on", "log") and not has_wrapper else self._call_hooks

    def _choose_run(self, manager: pluggy.PluginManager) -> Callable[..., Any]:
        candidates = [one for one in self._implementations if not _is_wrapper(one)]
        if not candidates:
            return self._raise_without_hook
        chosen = [one for one in candidates if one.plugin_name not in self._defaults] or candidates[-1:]
        if len(chosen) > 1:
            names = " and ".join(f"'{one.plugin_name}'" for one in reversed(chosen))
            in_parts = self.name == "run_iteration" and any(one.plugin_name == PARTS for one in chosen)
            instead = " Or implement run_part instead, which is called for each part of a mini-batch." * in_parts
            raise HookError(
                f"{names} both implement {self.name}, and only one hook can. To fix, unregister one of them, or make "
                f"one a wrapper around the other: @hookimpl(wrapper=True).{instead}"
            )
        replaced = {one.plugin_name for one in candidates if one is not chosen[0]}
        self.listeners = tuple(one for one in self.listeners if one.is_wrapper or one.name not in replaced)
        if len(self._implementations) == len(candidates) and self._takes_all_arguments(manager, chosen[0]):
            self._caller = chosen[0].function
        else:
            others = [one.plugin for one in candidates if one is not chosen[0]]
            self._caller = manager.subset_hook_caller(self.name, others)
        return self._call_hooks

    def _takes_all_arguments(self, manager: pluggy.PluginManager, implementation: pluggy.HookImpl) -> bool:
        specification = getattr(manager.hook, self.name).spec
        return specification is not None and set(implementation.argnames) == set(specification.argnames)

    def _call_hooks(self, **arguments: Any) -> Any:
        try:
            return self._caller(**arguments)
        except BaseException as error:
            self._add_hook_name(error)
            raise

    def _make_direct_call(self) -> Callable[..., None]:
        # Does what pluggy does when return values are ignored and there is no wrapper. pluggy's list is reversed.
        functions = [(one.function, _argument_getter(one.argnames)) for one in reversed(self._implementations)]

        def call(**arguments: Any) -> None:
            try:
                for function, get_values in functions:
                    function(*get_values(arguments))
            except BaseException as error:
                self._add_hook_name(error)
                raise

        return call

    def _make_log_call(self) -> Callable[..., None]:
        hooks = [
            (one.plugin_name, one.function, _argument_getter(one.argnames)) for one in reversed(self._implementations)
        ]

        def log(**arguments: Any) -> None:
            for name, function, get_values in hooks:
                values = get_values(arguments)  # outside of try: a missing argument is the caller's error
                try:
                    function(*values)
                except Exception as error:
                    self._warn(name, error)

        return log

    def _log_through_wrappers(self, **arguments: Any) -> None:
        # An error passes through the wrappers, and the hooks after it are not called.
        try:
            self._caller(**arguments)
        except pluggy.HookCallError:  # a missing argument is the caller's error
            raise
        except Exception as error:
            self._warn(self._find_hook(error.__traceback__) or f"one of {self._names()}", error)

    def _warn(self, hook: str, error: Exception) -> None:
        self._logging_errors.warn_once(hook, f"{hook} can't record {self.name}", error)

    def _compute(self, **arguments: Any) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for result in self._call_hooks(**arguments):
            if not isinstance(result, Mapping):
                raise HookError(
                    f"{self.name} has to return a dictionary, and one of {self._names()} returned "
                    f"{type(result).__name__}. To fix, return a dictionary of names to numbers."
                )
            duplicates = sorted(merged.keys() & result.keys())
            if duplicates:
                raise HookError(
                    f"{self.name}: '{duplicates[0]}' was returned by two of the hooks {self._names()}. "
                    "To fix, rename it in one of them."
                )
            merged.update(result)
        return merged

    def _raise_without_hook(self, **arguments: Any) -> Any:
        raise HookError(
            f"No hook implements {self.name}. To fix, register a hook that does. A session registers 'training_step' "
            "for the work of an iteration; an engine takes a function, Engine(run_iteration)."
        )

    def _names(self) -> str:
        return ", ".join(f"'{one.plugin_name}'" for one in reversed(self._implementations))

    def _add_hook_name(self, error: BaseException) -> None:
        if any(note.startswith(NOTE) for note in getattr(error, "__notes__", ())):
            return
        name = self._find_hook(error.__traceback__)
        if name is not None and name not in self._defaults:
            error.add_note(f"{NOTE} '{name}', at {self.name}")

    def _find_hook(self, traceback: TracebackType | None) -> str | None:
        found = None
        while traceback is not None:
            matches = [one for one in self._implementations if self._is_code_of(one, traceback.tb_frame)]
            if len(matches) > 1:  # hooks of one class; only then, since reading f_locals keeps the variables alive
                first_argument = traceback.tb_frame.f_code.co_varnames[:1]
                owners = [traceback.tb_frame.f_locals.get(name) for name in first_argument]
                matches = [one for one in matches if any(self._owner_of(one) is owner for owner in owners)]
            if matches:
                found = str(matches[0].plugin_name)  # the innermost, since an error also passes through wrappers
            traceback = traceback.tb_next
        return found

    def _owner_of(self, implementation: pluggy.HookImpl) -> object:
        return getattr(self._functions[implementation.plugin_name], "__self__", None)

    def _is_code_of(self, implementation: pluggy.HookImpl, frame: FrameType) -> bool:
        return getattr(self._functions[implementation.plugin_name], "__code__", None) is frame.f_code


def _listener(implementation: pluggy.HookImpl) -> Listener:
    return Listener(implementation.plugin_name, _is_wrapper(implementation))


def _is_wrapper(implementation: pluggy.HookImpl) -> bool:
    return bool(implementation.wrapper or implementation.hookwrapper)


def _argument_getter(names: Sequence[str]) -> Callable[[Mapping[str, Any]], Sequence[Any]]:
    if len(names) == 1:  # itemgetter of one name doesn't return a tuple
        (name,) = names
        return lambda arguments: (arguments[name],)
    return itemgetter(*names) if names else lambda arguments: ()


def _do_nothing(**arguments: Any) -> None:
    return None


def _compute_nothing(**arguments: Any) -> dict[str, Any]:
    return {}
