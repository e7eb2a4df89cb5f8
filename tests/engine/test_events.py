import logging

import pluggy
import pytest

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.logging_errors import LoggingErrors
from torchbase.engine.plugins import HookRegistry
from torchbase.errors import HookError


def registry_of(*hooks):
    registry = HookRegistry()
    for position, hook in enumerate(hooks):
        registry.register(hook, f"{type(hook).__name__}{position}")
    return registry


class Returns:
    def __init__(self, value):
        self.value = value

    @hookimpl
    def should_stop(self):
        return self.value

    @hookimpl
    def on_epoch_end(self):
        return self.value

    @hookimpl
    def compute_phase_metrics(self):
        return self.value


class StepsOptimizer:
    def __init__(self, result=None):
        self.calls, self.result = 0, result

    @hookimpl
    def run_optimizer_step(self, run):
        self.calls += 1
        return self.result


class Failing:
    @hookimpl
    def on_epoch_end(self, run):
        self.fail()

    @hookimpl
    def run_optimizer_step(self, run):
        self.fail()

    def fail(self):
        raise KeyError("lost")


def test_an_event_without_hooks_does_nothing():
    call = HookRegistry().call
    assert call.on_epoch_end(run=None) is None
    assert call.should_stop(run=None) is None
    assert call.compute_phase_metrics(run=None, phase=None) == {}


@pytest.mark.parametrize(("values", "decision"), [((None, False, True), False), ((None, None), None), ((True,), True)])
def test_the_first_return_value_that_is_not_none_wins(values, decision):
    assert registry_of(*map(Returns, values)).call.should_stop(run=None) is decision


def test_computed_dictionaries_are_merged():
    call = registry_of(Returns({"a": 1.0}), Returns({"b": 2.0})).call
    assert call.compute_phase_metrics(run=None, phase=None) == {"a": 1.0, "b": 2.0}


def test_a_value_that_two_hooks_return_is_an_error_with_its_name_and_the_hooks():
    call = registry_of(Returns({"a": 1.0}), Returns({"a": 1.0})).call
    with pytest.raises(HookError, match=r"'a' was returned by two of the hooks 'Returns0', 'Returns1'"):
        call.compute_phase_metrics(run=None, phase=None)


def test_a_computed_value_that_is_not_a_dictionary_is_an_error():
    with pytest.raises(HookError, match="has to return a dictionary, and one of 'Returns0' returned float"):
        registry_of(Returns(1.0)).call.compute_phase_metrics(run=None, phase=None)


def test_firing_a_run_event_without_hook_is_an_error_that_says_what_to_register():
    with pytest.raises(HookError, match=r"No hook implements run_iteration.*training_step"):
        HookRegistry().call.run_iteration(run=None, phase=None, batch=None)


def test_a_registered_hook_replaces_a_default_even_if_it_returns_none():
    default, replacement = StepsOptimizer(), StepsOptimizer()
    registry = HookRegistry(defaults=[default])
    registry.call.run_optimizer_step(run=None)
    registry.register(replacement, "replacement")
    registry.call.run_optimizer_step(run=None)
    assert (default.calls, replacement.calls) == (1, 1)
    registry.unregister("replacement")
    registry.call.run_optimizer_step(run=None)
    assert (default.calls, replacement.calls) == (2, 1)


def test_the_hook_that_replaces_a_default_is_wrapped():
    class Wrapper:
        @hookimpl(wrapper=True)
        def run_optimizer_step(self):
            result = yield
            return f"wrapped {result}"

    registry = HookRegistry(defaults=[StepsOptimizer("default")])
    registry.register(Wrapper())
    assert registry.call.run_optimizer_step(run=None) == "wrapped default"
    registry.register(StepsOptimizer("replacement"), "replacement")
    assert registry.call.run_optimizer_step(run=None) == "wrapped replacement"


def test_two_hooks_that_implement_the_same_run_event_are_refused():
    with pytest.raises(
        HookError, match=r"'StepsOptimizer0' and 'StepsOptimizer1' both implement run_optimizer_step.*wrapper=True"
    ):
        registry_of(StepsOptimizer(), StepsOptimizer())


def test_a_run_event_passes_the_arguments_that_its_hook_takes():
    class Partial:
        @hookimpl
        def run_forward(self, batch):
            return batch

    assert registry_of(Partial()).call.run_forward(run=None, phase=None, batch=5) == 5


@pytest.mark.parametrize("event", ["on_epoch_end", "run_optimizer_step"])
def test_an_error_keeps_its_type_and_a_note_names_hook_and_event(event):
    with pytest.raises(KeyError, match="lost") as caught:
        getattr(registry_of(Failing()).call, event)(run=None)
    assert caught.value.__notes__ == [f"in the hook 'Failing0', at {event}"]


def test_the_note_names_the_hook_that_failed_among_hooks_of_one_class():
    class Sometimes:
        def __init__(self, fails):
            self.fails = fails

        @hookimpl
        def on_epoch_end(self):
            if self.fails:
                raise ValueError

    with pytest.raises(ValueError) as caught:
        registry_of(Sometimes(False), Sometimes(True), Sometimes(False)).call.on_epoch_end(run=None)
    assert caught.value.__notes__ == ["in the hook 'Sometimes1', at on_epoch_end"]


def test_an_error_that_passes_through_several_events_has_one_note_with_the_innermost():
    class Outer:
        def __init__(self):
            self.registry = None

        @hookimpl
        def run_optimizer_step(self, run):
            self.registry.call.on_epoch_end(run=run)

    outer = Outer()
    outer.registry = registry_of(outer, FailingOnly())
    with pytest.raises(KeyError) as caught:
        outer.registry.call.run_optimizer_step(run=None)
    assert caught.value.__notes__ == ["in the hook 'FailingOnly1', at on_epoch_end"]


class FailingOnly:
    @hookimpl
    def on_epoch_end(self):
        raise KeyError


class Records:
    def __init__(self):
        self.steps = []

    @hookimpl
    def log_scalars(self, scalars, step):
        self.steps.append(step)


class Broken:
    def __init__(self, error):
        self.error = error

    @hookimpl
    def log_scalars(self, scalars):
        raise self.error


def call_with_broken(policy, error, *hooks):
    """Returns the events of a registry whose second hook raises an error, and two hooks that record."""
    first, last = Records(), Records()
    registry = HookRegistry((first,), logging_errors=LoggingErrors(policy))
    registry.register(Broken(error), "mine")
    for number, hook in enumerate((last, *hooks)):
        registry.register(hook, str(number))
    return registry.call, first, last


def test_an_error_in_a_log_event_is_warned_about_once_and_all_other_hooks_record(caplog):
    call, first, last = call_with_broken("warn", ConnectionError("gone"))
    with caplog.at_level(logging.WARNING, "torchbase"):
        for step in (1, 2):
            call.log_scalars(run=None, scalars={}, step=step)
    assert first.steps == last.steps == [1, 2]
    (warning,) = caplog.messages
    assert warning.startswith("mine can't record log_scalars, so some values will be missing there; training continues")
    assert "ConnectionError: gone" in warning


def test_an_error_in_a_log_event_is_raised_if_the_policy_is_raise():
    call, *_ = call_with_broken("raise", ConnectionError("gone"))
    with pytest.raises(ConnectionError, match="gone") as caught:
        call.log_scalars(run=None, scalars={}, step=1)
    assert caught.value.__notes__ == ["in the hook 'mine', at log_scalars"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_an_exception_that_exits_the_program_is_raised_in_a_log_event(error):
    call, *_ = call_with_broken("warn", error)
    with pytest.raises(type(error)):
        call.log_scalars(run=None, scalars={}, step=1)


class Wrapper:
    def __init__(self):
        self.errors = []

    @hookimpl(wrapper=True)
    def log_scalars(self):
        try:
            yield
        except ConnectionError as error:
            self.errors.append(error)
            raise


def test_a_wrapper_sees_an_error_in_a_log_event_before_the_warning(caplog):
    wrapper = Wrapper()
    call, first, _ = call_with_broken("warn", ConnectionError("gone"), wrapper)
    call.log_scalars(run=None, scalars={}, step=1)
    assert first.steps == [1]
    assert len(wrapper.errors) == 1
    assert caplog.messages[0].startswith("mine can't record log_scalars")


@pytest.mark.filterwarnings("ignore:Argument")  # pluggy warns about it, too
@pytest.mark.parametrize("hooks", [(), (Wrapper(),)])
def test_a_missing_argument_of_the_caller_is_raised(hooks):
    call, *_ = call_with_broken("warn", ConnectionError("gone"), *hooks)
    with pytest.raises((KeyError, pluggy.HookCallError), match="scalars"):
        call.log_scalars(run=None, numbers={}, step=1)


def test_errors_in_other_events_are_raised_whatever_the_policy():
    registry = HookRegistry((FailingOnly(),), logging_errors=LoggingErrors("warn"))
    with pytest.raises(KeyError):
        registry.call.on_epoch_end(run=None)
