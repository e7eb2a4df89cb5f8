import functools
import types

import pytest

from torchbase.engine.hook_checks import ARGUMENTS_OF_EVENTS, EVENT_NAMES, name_of
from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.plugins import HookRegistry
from torchbase.errors import HookError


class HTTPLogWriter:
    @hookimpl
    def on_run_end(self):
        pass


class Recorder:
    def __init__(self, calls, label):
        self.calls, self.label = calls, label

    @hookimpl
    def on_epoch_end(self, run):
        self.calls.append(self.label)


class Named:
    name = "my_name"

    @hookimpl
    def on_run_end(self):
        pass


@pytest.mark.parametrize(
    ("hook", "name"),
    [(HTTPLogWriter(), "http_log_writer"), (Named(), "my_name"), (types.ModuleType("package.some_hook"), "some_hook")],
)
def test_the_default_name_is_the_attribute_or_the_class_name(hook, name):
    assert name_of(hook) == name


def test_a_name_that_is_not_a_string_is_refused():
    hook = Named()
    hook.name = 3
    with pytest.raises(HookError, match=r"name of Named is 3"):
        HookRegistry().register(hook)


def test_a_class_is_refused():
    with pytest.raises(HookError, match=r"Named is a class.*add parentheses: Named\(\)"):
        HookRegistry().register(Named)


def test_a_method_that_is_not_marked_is_refused():
    class Forgotten:
        def on_epoch_end(self, run):
            pass

    with pytest.raises(HookError, match=r"Forgotten has a method 'on_epoch_end'.*put @hookimpl above"):
        HookRegistry().register(Forgotten())


def test_a_misspelt_event_is_refused():
    class Misspelt:
        @hookimpl
        def on_epoch_and(self, run):
            pass

    with pytest.raises(HookError, match=r"marks 'on_epoch_and'.*Did you mean 'on_epoch_end'?"):
        HookRegistry().register(Misspelt())


def test_an_argument_that_the_event_lacks_is_refused():
    class TakesBatch:
        @hookimpl
        def on_epoch_end(self, run, batch):
            pass

    with pytest.raises(
        HookError, match=r"TakesBatch\.on_epoch_end requires 'batch', but the arguments of the event are 'run'"
    ):
        HookRegistry().register(TakesBatch())


@pytest.mark.parametrize("event", EVENT_NAMES)
def test_a_method_without_self_is_refused(event):
    arguments = ARGUMENTS_OF_EVENTS[event]
    function = eval(f"lambda {', '.join(arguments)}: None")
    with pytest.raises(HookError, match=rf"Selfless\.{event} has the first argument '{arguments[0]}', which would be"):
        HookRegistry([type("Selfless", (), {event: hookimpl(function)})()])
    HookRegistry([type("Static", (), {event: staticmethod(hookimpl(function))})()])


def test_a_hook_without_any_event_is_refused():
    with pytest.raises(HookError, match="object implements no event"):
        HookRegistry().register(object())


def test_properties_are_not_evaluated_by_registering():
    class Lazy(Named):
        @property
        def network(self):
            raise RuntimeError("not built yet")

    registry = HookRegistry()
    registry.register(Named(), "other")
    with pytest.raises(RuntimeError, match="not built yet"):
        _ = Lazy().network
    assert name_of(Lazy()) == "my_name"


def test_a_property_named_like_an_event_is_not_evaluated_either():
    class Lazy(Recorder):
        @property
        def on_run_end(self):
            raise RuntimeError("not built yet")

    registry = HookRegistry([Lazy([], "a")])
    assert registry.listeners["on_run_end"] == ()


@pytest.mark.parametrize("marks", [(hookimpl,), (hookimpl, functools.wraps(lambda self, *, batch: None))])
def test_a_keyword_argument_that_the_event_lacks_is_refused(marks):
    def on_epoch_end(self, *, batch):
        pass

    for mark in reversed(marks):
        on_epoch_end = mark(on_epoch_end)
    with pytest.raises(HookError, match="requires 'batch', but the arguments of the event are 'run'"):
        HookRegistry([type("TakesBatch", (), {"on_epoch_end": on_epoch_end})()])


@pytest.mark.parametrize("function", [lambda self, *everything: None, lambda self, run, **everything: None])
def test_variable_arguments_are_refused_since_pluggy_would_pass_nothing(function):
    with pytest.raises(HookError, match="requires 'everything', but the arguments of the event are 'run'"):
        HookRegistry([type("Greedy", (), {"on_epoch_end": hookimpl(function)})()])


def test_an_argument_with_a_default_that_the_event_lacks_is_allowed():
    class Patient:
        @hookimpl
        def should_stop(self, run, patience=3):
            return patience

    assert HookRegistry([Patient()]).call.should_stop(run=None) == 3


def test_the_event_names_are_those_of_the_specifications():
    assert EVENT_NAMES[0] == "on_setup_start"
    assert "log_scalars" in EVENT_NAMES
    assert {name.partition("_")[0] for name in EVENT_NAMES} == {"on", "run", "is", "should", "compute", "log"}
