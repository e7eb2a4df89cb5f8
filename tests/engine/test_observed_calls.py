from contextlib import contextmanager

import pytest

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.observed_calls import observes_calls
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
            self.seen.append(f"{hook} exits")

    @hookimpl
    def on_run_end(self):
        self.seen.append("observer called")


class StepsOptimizer:
    name = "steps"

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


class Wrapper:
    name = "wrapper"

    @hookimpl(wrapper=True)
    def run_optimizer_step(self, run):
        return f"wrapped {(yield)}"

    @hookimpl(wrapper=True)
    def should_stop(self):
        return not (yield)


def test_calls_of_all_kinds_of_events_are_observed_and_return_the_same():
    plain = HookRegistry([StepsOptimizer(), Wrapper()]).call
    registry = HookRegistry([StepsOptimizer(), Wrapper(), observer := Observer()])
    assert observes_calls(observer)
    for event, arguments in (
        ("run_optimizer_step", {"run": 1}),
        ("should_stop", {"run": 1}),
        ("compute_phase_metrics", {"run": 1, "phase": 2}),
    ):
        assert getattr(registry.call, event)(**arguments) == getattr(plain, event)(**arguments)
    assert observer.seen[:6] == [
        "wrapper begins run_optimizer_step",
        "wrapper exits",
        "steps begins run_optimizer_step",
        "steps exits",
        "wrapper returns run_optimizer_step",
        "wrapper exits",
    ]


def test_a_call_without_wrappers_is_observed():
    registry = HookRegistry([StepsOptimizer(), observer := Observer()])
    assert registry.call.run_optimizer_step(run=1) == "stepped 1"
    assert observer.seen == ["steps begins run_optimizer_step", "steps exits"]


def test_an_error_keeps_its_type_and_a_note_names_the_hook():
    registry = HookRegistry([observer := Observer(), StepsOptimizer()])
    with pytest.raises(KeyError, match="lost") as caught:
        registry.call.on_run_end(run=None)
    assert caught.value.__notes__ == ["in the hook 'steps', at on_run_end"]
    assert observer.seen == [
        "observer called",
        "steps begins on_run_end",
        "steps raises KeyError",
        "steps exits",
    ]


def test_an_error_passes_through_a_wrapper():
    class Fails:
        @hookimpl
        def run_optimizer_step(self, run):
            raise ZeroDivisionError

    class Handles:
        @hookimpl(wrapper=True)
        def run_optimizer_step(self):
            try:
                return (yield)
            except ZeroDivisionError:
                return "handled"

    assert HookRegistry([Fails(), Handles(), Observer()]).call.run_optimizer_step(run=1) == "handled"


def test_a_wrapper_that_yields_twice_or_never_raises_the_same_error_as_without_an_observer():
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
                HookRegistry([StepsOptimizer(), hook, *others]).call.run_optimizer_step(run=1)


def test_calls_are_not_observed_after_the_observer_is_unregistered():
    registry = HookRegistry([StepsOptimizer(), observer := Observer()])
    registry.unregister("observer")
    assert registry.call.run_optimizer_step(run=1) == "stepped 1"
    assert observer.seen == []
