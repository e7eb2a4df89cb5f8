import contextlib
import types

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.plugins import HookRegistry
from torchbase.errors import HookError
from torchbase.listeners import Listener


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


def test_hooks_are_called_in_the_order_of_registration():
    calls = []
    registry = HookRegistry()
    for label in "abc":
        registry.register(Recorder(calls, label), label)
    registry.call.on_epoch_end(run=None)
    assert calls == ["a", "b", "c"]
    assert list(registry.hooks) == ["a", "b", "c"]


def test_tryfirst_and_trylast_change_the_order():
    calls = []

    class First(Recorder):
        @hookimpl(tryfirst=True)
        def on_epoch_end(self, run):
            self.calls.append("first")

    class Last(Recorder):
        @hookimpl(trylast=True)
        def on_epoch_end(self, run):
            self.calls.append("last")

    registry = HookRegistry()
    for hook in (Last(calls, ""), Recorder(calls, "a"), First(calls, ""), Recorder(calls, "b")):
        registry.register(hook, str(id(hook)))
    registry.call.on_epoch_end(run=None)
    assert calls == ["first", "a", "b", "last"]


def test_the_wrapper_registered_first_is_outermost():
    calls = []

    def wrapper(label):
        class Wrapper:
            @hookimpl(wrapper=True)
            def run_phase(self):
                calls.append(f"{label} before")
                result = yield
                calls.append(f"{label} after")
                return result

        return Wrapper()

    class RunsPhase:
        @hookimpl
        def run_phase(self):
            calls.append("called")

    registry = HookRegistry()
    registry.register(RunsPhase())
    registry.register(wrapper("outer"), "outer")
    registry.register(wrapper("inner"), "inner")
    registry.call.run_phase(run=None, phase=None)
    assert calls == ["outer before", "inner before", "called", "inner after", "outer after"]


def test_a_module_can_be_a_hook():
    calls = []
    module = types.ModuleType("my_hook")
    module.on_epoch_end = hookimpl(lambda run: calls.append(run))
    registry = HookRegistry()
    assert registry.register(module) == "my_hook"
    registry.call.on_epoch_end(run=7)
    assert calls == [7]


def test_unregistering_returns_the_hook_and_it_is_not_called_any_more():
    calls = []
    hook = Recorder(calls, "a")
    registry = HookRegistry()
    registry.register(hook)
    assert registry.unregister("recorder") is hook
    registry.call.on_epoch_end(run=None)
    assert calls == []
    assert not registry.hooks


def test_the_mapping_of_hooks_is_read_only():
    with pytest.raises(TypeError):
        HookRegistry().hooks["a"] = object()


def test_unregistering_an_unknown_name_suggests_the_most_similar():
    registry = HookRegistry()
    registry.register(Named())
    with pytest.raises(HookError, match=r"No hook is named 'my_nam'. Did you mean 'my_name'?"):
        registry.unregister("my_nam")


def test_a_name_that_is_taken_is_refused_and_nothing_changes():
    registry = HookRegistry()
    first = Named()
    registry.register(first)
    with pytest.raises(HookError, match=r"'my_name' is already registered.*another name"):
        registry.register(Named())
    assert registry.hooks == {"my_name": first}


def test_the_same_hook_twice_is_refused():
    registry = HookRegistry()
    hook = Named()
    registry.register(hook)
    with pytest.raises(HookError, match="Named is already registered, as 'my_name'"):
        registry.register(hook, "another")


def test_static_and_class_methods_and_functions_of_the_instance_are_called():
    calls = []

    class OfAllKinds:
        def __init__(self):
            self.on_epoch_start = hookimpl(lambda run: calls.append(("instance", run)))

        @staticmethod
        @hookimpl
        def on_run_start(run):
            calls.append(("static", run))

        @classmethod
        @hookimpl
        def on_run_end(cls, run):
            calls.append((cls.__name__, run))

    registry = HookRegistry([OfAllKinds()])
    registry.call.on_run_start(run=1)
    registry.call.on_run_end(run=2)
    registry.call.on_epoch_start(run=3)
    assert calls == [("static", 1), ("OfAllKinds", 2), ("instance", 3)]


def test_inherited_methods_are_called_and_overridden_methods_are_not():
    class Base:
        @hookimpl
        def on_run_start(self, run):
            return "base"

        @hookimpl
        def should_stop(self, run):
            return "base"

    class Slotted(Base):
        __slots__ = ()

        @hookimpl
        def should_stop(self, run):
            return "derived"

    registry = HookRegistry([Slotted()])
    assert registry.call.should_stop(run=None) == "derived"
    assert [one.name for one in registry.listeners["on_run_start"]] == ["slotted"]


def test_hooks_of_the_constructor_are_called_after_the_defaults():
    registry = HookRegistry([Recorder([], "a")], defaults=[Named()])
    assert list(registry.hooks) == ["my_name", "recorder"]
    with pytest.raises(HookError, match="'my_name' is already registered"):
        HookRegistry([Named()], defaults=[Named()])


class RunsPhase:
    def __init__(self, name):
        self.name = name

    @hookimpl
    def run_phase(self):
        pass


class Wrapper(RunsPhase):
    @hookimpl(wrapper=True)
    def run_phase(self):
        return (yield)


def test_the_listeners_of_an_event_are_in_the_order_of_their_calls():
    class First(Recorder):
        @hookimpl(tryfirst=True)
        def on_epoch_end(self, run):
            super().on_epoch_end(run)

    class Last(Recorder):
        @hookimpl(trylast=True)
        def on_epoch_end(self, run):
            super().on_epoch_end(run)

    calls = []
    registry = HookRegistry()
    listeners = registry.listeners
    assert listeners["on_epoch_end"] == ()
    for name, kind in (("a", Last), ("b", Recorder), ("c", First), ("d", Last), ("e", Recorder), ("f", First)):
        registry.register(kind(calls, name), name)
    registry.call.on_epoch_end(run=None)
    assert [one.name for one in listeners["on_epoch_end"]] == calls  # a view, which shows later changes
    assert not any(one.is_wrapper for one in listeners["on_epoch_end"])
    registry.unregister("c")
    assert "c" not in [one.name for one in listeners["on_epoch_end"]]


def test_the_listeners_of_a_run_event_leave_out_replaced_defaults():
    registry = HookRegistry(defaults=[RunsPhase("default")])
    registry.register(Wrapper("outer"))
    assert registry.listeners["run_phase"] == (Listener("outer", True), Listener("default", False))
    registry.register(RunsPhase("mine"))
    registry.register(Wrapper("inner"))
    names = [one.name for one in registry.listeners["run_phase"]]
    assert names == ["outer", "inner", "mine"]
    with pytest.raises(TypeError):
        registry.listeners["run_phase"] = ()


class Calls:
    """Implements three events, and appends its calls to a list."""

    def __init__(self, name, calls):
        self.name, self.calls = name, calls

    @hookimpl
    def on_run_start(self):
        self.calls.append((self.name, "on_run_start"))

    @hookimpl(tryfirst=True)
    def on_epoch_end(self):
        self.calls.append((self.name, "on_epoch_end"))


class Wraps(Calls):
    @hookimpl(wrapper=True)
    def on_epoch_end(self):
        self.calls.append((self.name, "before"))
        yield
        self.calls.append((self.name, "after"))

    @hookimpl(wrapper=True)
    def run_phase(self):
        return (yield) + self.name


class Runs:
    def __init__(self, name, calls):
        self.name = name

    @hookimpl
    def run_phase(self):
        return self.name


class Observes(Runs):
    def __init__(self, name, calls):
        super().__init__(name, calls)
        self.calls = calls

    def observe_call(self, hook, event, is_return):
        self.calls.append((self.name, hook, event, is_return))
        return contextlib.nullcontext()


KINDS = {"a": Calls, "b": Wraps, "c": Calls, "d": Wraps, "e": Runs, "f": Observes}


def what_happens(registry, calls):
    """Everything that a registry does, as the hooks note it."""
    calls.clear()
    registry.call.on_run_start(run=None)
    registry.call.on_epoch_end(run=None)
    result = registry.call.run_phase(run=None, phase=None) if registry.listeners["run_phase"] else None
    return list(registry.hooks), dict(registry.listeners), registry.fired_events, result, list(calls)


@settings(max_examples=50)
@given(st.lists(st.sampled_from([*"abcdef"]), max_size=12))
def test_hooks_that_come_and_go_leave_a_registry_like_one_that_is_made_with_them(names):
    calls = []
    changed = HookRegistry(defaults=[Runs("default", calls)])
    for name in names:
        if name in changed.hooks:
            changed.unregister(name)
        elif not ({"e", "f"} <= {name, *changed.hooks}):  # only one of them can run the phase
            changed.register(KINDS[name](name, calls))
    made = HookRegistry([KINDS[name](name, calls) for name in list(changed.hooks)[1:]], [Runs("default", calls)])
    assert what_happens(changed, calls) == what_happens(made, calls)
