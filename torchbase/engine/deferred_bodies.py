"""Refuses functions whose body doesn't run when they are called: coroutines and generators.

A caller that isn't written for them drops what they return, so their body would silently never run.
"""

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from functools import partial, wraps
from types import FunctionType, MethodType
from typing import Any

from torchbase.errors import HookError

_DEFERRED = (Awaitable, Generator, AsyncGenerator, AbstractContextManager, AbstractAsyncContextManager)


def check_body_runs(function: Callable[..., Any], where: str, *, is_wrapper: bool = False) -> None:
    """Refuses a coroutine function and a generator function.

    Args:
        function: A function, a method, a ``functools.partial`` of one, or an object with ``__call__``.
        where: What the function is, for the message, e.g. ``"Hook.on_epoch_end"``.
        is_wrapper: Whether pluggy runs the function as a wrapper, which has to be a generator function.

    Raises:
        HookError: If a call of the function wouldn't run its body.
    """
    kind = _kind_of(function)
    if kind == _GENERATOR and not is_wrapper:
        raise HookError(
            f"{where} is {kind}, so its body would never run. To fix, remove the yield; or, if it wraps the calls of "
            "other hooks, mark it with @hookimpl(wrapper=True)."
        )
    if kind not in (None, _GENERATOR):
        raise HookError(
            f"{where} is {kind}, so its body would never run. To fix, define it with def, and run coroutines in it "
            "with asyncio.run."
        )


def checked_call(function: Callable[..., Any], where: str) -> Callable[..., Any]:
    """Adds a check of the return value to a function that a decorator made from a coroutine or generator function.

    Such a decorator may run the body, so only a call shows whether it does. Other functions are returned unchanged.

    Args:
        function: The function.
        where: What the function is, for the message.

    Returns:
        The function, or one that raises a `HookError` if the body didn't run.
    """
    original = inspect.unwrap(function)
    if original is function or _kind_of(function) is not None or _kind_of(original) is None:
        return function

    @wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        result = function(*arguments, **named)
        if isinstance(result, _DEFERRED):
            if inspect.iscoroutine(result):
                result.close()  # otherwise Python warns of it, too
            raise HookError(
                f"{where} returned {type(result).__name__}, so its body didn't run. To fix, define it with def and "
                "without yield, or remove the decorator."
            )
        return result

    return call


_GENERATOR = "a generator function (it contains yield)"
_DEFERS = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_ITERABLE_COROUTINE


def _kind_of(function: Callable[..., Any]) -> str | None:
    # First the code object of a function or method, since the functions of inspect take far longer. An attribute of a
    # function can mark it as a coroutine function.
    plain = function.__func__ if isinstance(function, MethodType) else function
    is_plain = isinstance(plain, FunctionType) and not any("coroutine" in name for name in vars(plain))
    if is_plain and not plain.__code__.co_flags & _DEFERS:
        return None
    while isinstance(function, partial):
        function = function.func
    called = function if inspect.isroutine(function) else type(function).__call__
    if inspect.isasyncgenfunction(called):
        return "an asynchronous generator function (async def with yield)"
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called):
        return "a coroutine function (async def)"
    return _GENERATOR if inspect.isgeneratorfunction(called) else None
