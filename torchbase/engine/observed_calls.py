"""Letting a hook stand around every call of the other hooks, to take the time of it, say."""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from functools import partial, wraps
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class CallObserver(Protocol):
    """A hook that stands around each call of the others. Where there is none, calls are as they are."""

    def observe_call(self, hook: str, event: str, is_return: bool) -> AbstractContextManager[object]:
        """Gives what stands around one call.

        Args:
            hook: The name of the hook that is called.
            event: The event.
            is_return: Whether it is the second part of a wrapper, behind its ``yield``.

        Returns:
            A context, which is left when the call returns or raises; calls within it are observed by themselves.
        """


def observed(
    function: Callable[..., Any], observer: CallObserver, hook: str, event: str, is_wrapper: bool
) -> Callable[..., Any]:
    """Puts an observer around the calls of a hook's method.

    Args:
        function: The method.
        observer: The observer.
        hook: The name of the hook.
        event: The event.
        is_wrapper: Whether the method is a generator that goes around others; those are not within the observed parts.

    Returns:
        A function in the place of the method.
    """
    begins = partial(observer.observe_call, hook, event, False)
    returns = partial(observer.observe_call, hook, event, True)

    @wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        with begins():
            return function(*arguments, **named)

    @wraps(function)
    def go_around(*arguments: Any, **named: Any) -> Generator[Any, Any, Any]:
        generator = function(*arguments, **named)
        with begins():
            try:
                yielded = next(generator)
            except StopIteration as stopped:
                return stopped.value
        try:
            answer = yield yielded
        except BaseException as error:
            go_on = partial(generator.throw, error)
        else:
            go_on = partial(generator.send, answer)
        with returns():
            try:
                yielded = go_on()
            except StopIteration as stopped:
                return stopped.value
        yield yielded  # a second time, which pluggy refuses

    return go_around if is_wrapper else call
