"""Lets a hook observe every call of the other hooks, for example to measure its time."""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from functools import partial, wraps
from typing import Any, Protocol, TypeGuard


class CallObserver(Protocol):
    """A hook that observes each call of the other hooks. Without an observer, calls have no overhead."""

    def observe_call(self, hook: str, event: str, is_return: bool) -> AbstractContextManager[object]:
        """Returns a context manager for one call of a hook.

        Args:
            hook: The name of the hook that is called.
            event: The name of the event.
            is_return: Whether the call is the second part of a wrapper, after its ``yield``.

        Returns:
            A context manager. It is entered before the call, and exited when the call returns or raises. A call
            within this call gets its own context manager.
        """


def observes_calls(hook: object) -> TypeGuard[CallObserver]:
    """Whether a hook is a `CallObserver`.

    Args:
        hook: The hook.
    """
    # isinstance would take ten times as long with a protocol, for each hook of each session.
    return callable(getattr(hook, "observe_call", None))


def observed(
    function: Callable[..., Any], observer: CallObserver, hook: str, event: str, is_wrapper: bool
) -> Callable[..., Any]:
    """Wraps a method of a hook, so an observer sees its calls.

    Args:
        function: The method.
        observer: The observer.
        hook: The name of the hook.
        event: The event.
        is_wrapper: Whether the method is a generator that wraps other hooks. The parts before and after its ``yield``
            are observed, the other hooks between them are not.

    Returns:
        A function that replaces the method.
    """
    observe_begin = partial(observer.observe_call, hook, event, False)
    observe_return = partial(observer.observe_call, hook, event, True)

    @wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        with observe_begin():
            return function(*arguments, **named)

    @wraps(function)
    def wrap(*arguments: Any, **named: Any) -> Generator[Any, Any, Any]:
        generator = function(*arguments, **named)
        with observe_begin():
            try:
                yielded = next(generator)
            except StopIteration as stopped:
                return stopped.value
        try:
            result = yield yielded
        except BaseException as error:
            resume = partial(generator.throw, error)
        else:
            resume = partial(generator.send, result)
        with observe_return():
            try:
                yielded = resume()
            except StopIteration as stopped:
                return stopped.value
        yield yielded  # a second yield, which pluggy refuses

    return wrap if is_wrapper else call
