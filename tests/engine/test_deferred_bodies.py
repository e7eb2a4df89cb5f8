import asyncio
import contextlib
import functools
import inspect

import pytest
import torch

from torchbase import Engine
from torchbase.engine import hookspecs
from torchbase.engine.deferred_bodies import check_body_runs, checked_call
from torchbase.engine.hook_checks import EVENT_NAMES
from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.plugins import HookRegistry
from torchbase.errors import HookError


async def coroutine(self):
    pass


async def asynchronous_generator(self):
    yield


def generator(self):
    yield


DEFERRED = [coroutine, asynchronous_generator, generator]


def hook_with(event, function):
    return type("Deferred", (), {event: hookimpl(function)})()


def copy_of(function):
    """A function with a mark of its own."""
    return type(function)(function.__code__, function.__globals__, function.__name__)


def arguments_of(event):
    return dict.fromkeys(inspect.signature(getattr(hookspecs, event)).parameters)


@pytest.mark.parametrize("function", DEFERRED)
@pytest.mark.parametrize("event", EVENT_NAMES)
def test_a_hook_whose_body_would_never_run_is_refused(event, function):
    with pytest.raises(HookError, match=rf"Deferred\.{event} is .*so its body would never run\. To fix, "):
        HookRegistry([hook_with(event, copy_of(function))])


@pytest.mark.parametrize("function", [coroutine, asynchronous_generator])
def test_a_coroutine_can_not_be_a_wrapper(function):
    hook = type("Deferred", (), {"on_epoch_end": hookimpl(wrapper=True)(copy_of(function))})()
    with pytest.raises(HookError, match=r"Deferred\.on_epoch_end is .*async def"):
        HookRegistry([hook])


@pytest.mark.parametrize("function", DEFERRED)
@pytest.mark.parametrize("kind", [staticmethod, classmethod, "attribute"])
def test_a_method_of_any_kind_is_refused(function, kind):
    marked = hookimpl(copy_of(function))
    hook = type("Deferred", (), {"on_epoch_end": marked if kind == "attribute" else kind(marked)})()
    if kind == "attribute":
        hook = type("Deferred", (), {})()
        hook.on_epoch_end = marked
    with pytest.raises(HookError, match=r"Deferred\.on_epoch_end is "):
        HookRegistry([hook])


class WithCall:
    def __call__(self, run):
        pass


@pytest.mark.parametrize(
    "member", [functools.partial(print), functools.partialmethod(coroutine), WithCall()], ids=lambda one: type(one)
)
def test_a_callable_object_is_refused_since_pluggy_calls_only_functions(member):
    members = {"on_epoch_end": member, "on_run_start": hookimpl(lambda self: None)}
    with pytest.raises(HookError, match=r"Hook\.on_epoch_end is an object of type \w+, and only functions"):
        HookRegistry([type("Hook", (), members)()])


def test_an_inherited_method_can_be_removed_by_none():
    class Base:
        @hookimpl
        def on_run_start(self):
            return "base"

        @hookimpl
        def on_epoch_end(self):
            pass

    class Without(Base):
        on_run_start = None

    assert HookRegistry([Without()]).listeners["on_run_start"] == ()


@pytest.mark.parametrize("method", ["state_dict", "load_state_dict"])
@pytest.mark.parametrize("function", DEFERRED)
def test_methods_of_the_state_are_checked_too(method, function):
    members = {"on_run_start": hookimpl(lambda self: None), method: function}
    with pytest.raises(HookError, match=rf"Hook\.{method} is "):
        HookRegistry([type("Hook", (), members)()])


@pytest.mark.parametrize("function", DEFERRED)
@pytest.mark.parametrize("event", EVENT_NAMES)
def test_a_decorated_hook_whose_body_did_not_run_raises_an_error_when_it_is_called(event, function):
    @functools.wraps(function)
    def decorated(self):
        return function(self)

    registry = HookRegistry([hook_with(event, decorated)])
    with pytest.raises(HookError, match=rf"{event} of the hook 'deferred' returned .*its body didn't run"):
        getattr(registry.call, event)(**arguments_of(event))


@pytest.mark.parametrize("decorate", [contextlib.contextmanager, contextlib.asynccontextmanager, torch.no_grad()])
def test_known_decorators_that_return_before_the_body_runs_are_seen(decorate):
    function = asynchronous_generator if decorate is contextlib.asynccontextmanager else generator
    with pytest.raises(HookError, match="on_epoch_end"):
        HookRegistry([hook_with("on_epoch_end", decorate(function))]).call.on_epoch_end(run=None)


def test_a_decorator_that_runs_the_coroutine_is_allowed():
    async def body(self):
        await asyncio.sleep(0)
        return "done"

    @functools.wraps(body)
    def run_it(self):
        return asyncio.run(body(self))

    assert HookRegistry([hook_with("should_stop", run_it)]).call.should_stop(run=None) == "done"


@pytest.mark.parametrize("options", [{"wrapper": True}, {"hookwrapper": True}])
def test_wrappers_are_generators(options):
    calls = []

    class Wrapper:
        @hookimpl(**options)
        @torch.no_grad()
        def on_epoch_end(self):
            calls.append("before")
            yield
            calls.append("after")

    HookRegistry([Wrapper()]).call.on_epoch_end(run=None)
    assert calls == ["before", "after"]


class Step:
    async def __call__(self, run, phase, batch):
        pass


@pytest.mark.parametrize("step", [*DEFERRED, functools.partial(functools.partial(coroutine)), Step(), Step().__call__])
def test_a_step_of_an_engine_whose_body_would_never_run_is_refused(step):
    with pytest.raises(HookError, match=r"run_iteration of the engine is .*its body would never run"):
        Engine(step)


@pytest.mark.parametrize("function", [lambda: 1, functools.partial(print), WithCall(), torch.nn.Linear(1, 1), print])
def test_other_functions_are_left_as_they_are(function):
    check_body_runs(function, "It")
    assert checked_call(function, "It") is function
