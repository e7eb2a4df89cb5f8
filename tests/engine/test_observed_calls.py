from contextlib import contextmanager

import pytest

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.observed_calls import CallObserver
from torchbase.engine.plugins import HookRegistry


class Observer:
    name = "observer"

    def __init__(self):
        self.seen = []

    @contextmanager
    def observe_call(self, hook, event, is_return):
        self.seen.append(f"{hook} {'returns' if is_return else 'begins'} {event}")
        try:
            yield
        except BaseException as error:
            self.seen.append(f"{hook} raises {type(error).__name__}")
            raise
        finally:
            self.seen.append(f"{hook} is left")

    @hookimpl
    def on_run_end(self):
        self.seen.append("observer hears on_run_end")


class Does:
    name = "does"

    @hookimpl
    def run_optimizer_step(self, run):
        return f"stepped {run}"

    @hookimpl
    def on_run_end(self, run):
        raise KeyError("lost")

    @hookimpl
    def should_stop(self):
        return True

    @hookimpl
    def compute_phase_metrics(self, phase):
        return {"phase": phase}


class Around:
    name = "around"

    @hookimpl(wrapper=True)
    def run_optimizer_step(self, run):
        return f"around {(yield)}"

    @hookimpl(wrapper=True)
    def should_stop(self):
        return not (yield)


def test_each_call_of_each_kind_of_hook_is_observed_and_answers_as_before():
    plain = HookRegistry([Does(), Around()]).call
    registry = HookRegistry([Does(), Around(), observer := Observer()])
    assert isinstance(observer, CallObserver)
    for event, arguments in (
        ("run_optimizer_step", {"run": 1}),
        ("should_stop", {"run": 1}),
        ("compute_phase_metrics", {"run": 1, "phase": 2}),
    ):
        assert getattr(registry.call, event)(**arguments) == getattr(plain, event)(**arguments)
    assert observer.seen[:6] == [
        "around begins run_optimizer_step",
        "around is left",
        "does begins run_optimizer_step",
        "does is left",
        "around returns run_optimizer_step",
        "around is left",
    ]


def test_a_call_without_wrappers_is_observed_too():
    registry = HookRegistry([Does(), observer := Observer()])
    assert registry.call.run_optimizer_step(run=1) == "stepped 1"
    assert observer.seen == ["does begins run_optimizer_step", "does is left"]


def test_an_error_keeps_its_type_and_names_the_hook():
    registry = HookRegistry([observer := Observer(), Does()])
    with pytest.raises(KeyError, match="lost") as caught:
        registry.call.on_run_end(run=None)
    assert caught.value.__notes__ == ["in the hook 'does', at on_run_end"]
    assert observer.seen == [
        "observer hears on_run_end",
        "does begins on_run_end",
        "does raises KeyError",
        "does is left",
    ]


def test_an_error_goes_through_a_wrapper():
    class Fails:
        @hookimpl
        def run_optimizer_step(self, run):
            raise ZeroDivisionError

    class Mends:
        @hookimpl(wrapper=True)
        def run_optimizer_step(self):
            try:
                return (yield)
            except ZeroDivisionError:
                return "mended"

    assert HookRegistry([Fails(), Mends(), Observer()]).call.run_optimizer_step(run=1) == "mended"


def test_a_wrapper_that_yields_twice_or_never_is_told_of_as_without_an_observer():
    class Twice:
        @hookimpl(wrapper=True)
        def run_optimizer_step(self):
            yield
            yield

    class Never:
        @hookimpl(wrapper=True)
        def run_optimizer_step(self):
            return
            yield

    for hook, message in ((Twice(), "has second yield"), (Never(), "did not yield")):
        for others in ([], [Observer()]):
            with pytest.raises(RuntimeError, match=message):
                HookRegistry([Does(), hook, *others]).call.run_optimizer_step(run=1)


def test_when_it_is_unregistered_calls_are_as_they_were():
    registry = HookRegistry([Does(), observer := Observer()])
    registry.unregister("observer")
    assert registry.call.run_optimizer_step(run=1) == "stepped 1"
    assert observer.seen == []
