"""One event: how it is told to the hooks that implement it.

pluggy tells it; here its answers are put together as the event's kind says, errors get the name of the hook that
raised them, and what needs no telling is not told: an event that nobody implements is a function that does nothing, and
where no answer is to be put together and no wrapper stands around, the hooks are called straight. An error in a
``log_…`` event may be told in a warning, and the hooks behind the one that raised it are told all the same.
"""

from collections.abc import Callable, Collection, Mapping, Sequence, Set
from operator import itemgetter
from types import FrameType, MappingProxyType, TracebackType
from typing import Any

import pluggy

from torchbase.engine.logging_errors import LoggingErrors
from torchbase.engine.observed_calls import CallObserver, observed
from torchbase.errors import HookError
from torchbase.listeners import Listener

NOTE = "in the hook"


class Event:
    """An event and the hooks that implement it.

    Attributes:
        name: The event's name, whose first word says what becomes of the answers.
        listeners: The hooks that are told, in the order in which they are called; of those that do the same ``run_…``,
            the one that does it.
        call: Tells the event; takes its arguments by keyword.
    """

    def __init__(
        self,
        name: str,
        manager: pluggy.PluginManager,
        defaults: Set[str],
        logging_errors: LoggingErrors,
        observers: Mapping[str, CallObserver] = MappingProxyType({}),
    ) -> None:
        """Prepares the telling of one event.

        Args:
            name: The event's name.
            manager: pluggy's manager, with all hooks registered.
            defaults: The names of the hooks whose ``run_…`` implementations others may replace.
            logging_errors: What becomes of an error in a ``log_…`` event.
            observers: By name, those of the hooks that stand around each call of the others.

        Raises:
            HookError: If two hooks that are no defaults do the same ``run_…``.
        """
        self.name = name
        self._caller: Callable[..., Any] = getattr(manager.hook, name)
        self._defaults = defaults
        self._logging_errors = logging_errors
        self._implementations = getattr(manager.hook, name).get_hookimpls()
        self._functions = {one.plugin_name: one.function for one in self._implementations}
        for observer in observers.values():
            self._observe(observer, but=observers)
        self.listeners = tuple(_listener(one) for one in reversed(self._implementations))
        self.call = self._choose_call(manager)

    def _observe(self, observer: CallObserver, but: Collection[str]) -> None:
        for one in self._implementations:
            if one.plugin_name not in but:
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
            return self._log_as_one if has_wrapper else self._logging_each()
        return self._telling_each() if kind in ("on", "log") and not has_wrapper else self._tell

    def _choose_run(self, manager: pluggy.PluginManager) -> Callable[..., Any]:
        doers = [one for one in self._implementations if not _is_wrapper(one)]
        if not doers:
            return self._miss
        chosen = [one for one in doers if one.plugin_name not in self._defaults] or doers[-1:]
        if len(chosen) > 1:
            names = " and ".join(f"'{one.plugin_name}'" for one in reversed(chosen))
            raise HookError(
                f"{names} both do {self.name}, and only one hook can. To fix, unregister one of them, or make one a "
                "wrapper around the other: @hookimpl(wrapper=True)."
            )
        left_out = {one.plugin_name for one in doers if one is not chosen[0]}
        self.listeners = tuple(one for one in self.listeners if one.is_wrapper or one.name not in left_out)
        if len(self._implementations) == len(doers) and self._takes_everything(manager, chosen[0]):
            self._caller = chosen[0].function
        else:
            others = [one.plugin for one in doers if one is not chosen[0]]
            self._caller = manager.subset_hook_caller(self.name, others)
        return self._tell

    def _takes_everything(self, manager: pluggy.PluginManager, implementation: pluggy.HookImpl) -> bool:
        specification = getattr(manager.hook, self.name).spec
        return specification is not None and set(implementation.argnames) == set(specification.argnames)

    def _tell(self, **arguments: Any) -> Any:
        try:
            return self._caller(**arguments)
        except BaseException as error:
            self._name_the_hook(error)
            raise

    def _telling_each(self) -> Callable[..., None]:
        # What pluggy does where no answer counts and there is no wrapper; it keeps the last to be called first.
        functions = [(one.function, _taking(one.argnames)) for one in reversed(self._implementations)]

        def tell(**arguments: Any) -> None:
            try:
                for function, take in functions:
                    function(*take(arguments))
            except BaseException as error:
                self._name_the_hook(error)
                raise

        return tell

    def _logging_each(self) -> Callable[..., None]:
        hooks = [(one.plugin_name, one.function, _taking(one.argnames)) for one in reversed(self._implementations)]

        def log(**arguments: Any) -> None:
            for name, function, take in hooks:
                values = take(arguments)  # a mistake in these is that of who tells it
                try:
                    function(*values)
                except Exception as error:
                    self._warn(name, error)

        return log

    def _log_as_one(self, **arguments: Any) -> None:
        # An error passes through the wrappers, and ends the telling.
        try:
            self._caller(**arguments)
        except pluggy.HookCallError:  # who tells it left an argument out
            raise
        except Exception as error:
            self._warn(self._find_the_hook(error.__traceback__) or f"one of {self._names()}", error)

    def _warn(self, hook: str, error: Exception) -> None:
        self._logging_errors.warn_once(hook, f"{hook} can't record what {self.name} tells", error)

    def _compute(self, **arguments: Any) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for answer in self._tell(**arguments):
            if not isinstance(answer, Mapping):
                raise HookError(
                    f"{self.name} takes a dictionary from each hook, and got {type(answer).__name__} from one of "
                    f"{self._names()}. To fix, return a dictionary of names to numbers."
                )
            twice = sorted(merged.keys() & answer.keys())
            if twice:
                raise HookError(
                    f"{self.name}: '{twice[0]}' was given by two of the hooks {self._names()}. "
                    "To fix, name it differently in one of them."
                )
            merged.update(answer)
        return merged

    def _miss(self, **arguments: Any) -> Any:
        raise HookError(
            f"No hook does {self.name}. To fix, register one that implements it; a session registers 'training_step' "
            "for the work of an iteration, and an engine takes a function, Engine(run_iteration)."
        )

    def _names(self) -> str:
        return ", ".join(f"'{one.plugin_name}'" for one in reversed(self._implementations))

    def _name_the_hook(self, error: BaseException) -> None:
        if any(note.startswith(NOTE) for note in getattr(error, "__notes__", ())):
            return
        name = self._find_the_hook(error.__traceback__)
        if name is not None and name not in self._defaults:
            error.add_note(f"{NOTE} '{name}', at {self.name}")

    def _find_the_hook(self, traceback: TracebackType | None) -> str | None:
        found = None
        while traceback is not None:
            of_this_code = [one for one in self._implementations if self._is_code_of(one, traceback.tb_frame)]
            if len(of_this_code) > 1:  # hooks of one class; to look at variables keeps them, and what they hold, alive
                first_argument = traceback.tb_frame.f_code.co_varnames[:1]
                owners = [traceback.tb_frame.f_locals.get(name) for name in first_argument]
                of_this_code = [one for one in of_this_code if any(self._owner_of(one) is owner for owner in owners)]
            if of_this_code:
                found = str(of_this_code[0].plugin_name)  # the innermost: errors of others pass through a wrapper
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


def _taking(names: Sequence[str]) -> Callable[[Mapping[str, Any]], Sequence[Any]]:
    if len(names) == 1:
        (name,) = names
        return lambda arguments: (arguments[name],)
    return itemgetter(*names) if names else lambda arguments: ()  # itemgetter(name) gives no tuple


def _do_nothing(**arguments: Any) -> None:
    return None


def _compute_nothing(**arguments: Any) -> dict[str, Any]:
    return {}
