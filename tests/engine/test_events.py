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


class Answer:
    def __init__(self, answer):
        self.answer = answer

    @hookimpl
    def should_stop(self):
        return self.answer

    @hookimpl
    def on_epoch_end(self):
        return self.answer

    @hookimpl
    def compute_phase_metrics(self):
        return self.answer


class Does:
    def __init__(self, result=None):
        self.times, self.result = 0, result

    @hookimpl
    def run_optimizer_step(self, run):
        self.times += 1
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


def test_an_event_that_nobody_implements_does_nothing():
    call = HookRegistry().call
    assert call.on_epoch_end(run=None) is None
    assert call.should_stop(run=None) is None
    assert call.compute_phase_metrics(run=None, phase=None) == {}


@pytest.mark.parametrize(("answers", "decision"), [((None, False, True), False), ((None, None), None), ((True,), True)])
def test_the_first_answer_that_is_not_none_decides(answers, decision):
    assert registry_of(*map(Answer, answers)).call.should_stop(run=None) is decision


def test_computed_dictionaries_are_merged():
    call = registry_of(Answer({"a": 1.0}), Answer({"b": 2.0})).call
    assert call.compute_phase_metrics(run=None, phase=None) == {"a": 1.0, "b": 2.0}


def test_a_value_given_twice_is_an_error_that_names_it_and_the_hooks():
    call = registry_of(Answer({"a": 1.0}), Answer({"a": 1.0})).call
    with pytest.raises(HookError, match=r"'a' was given by two of the hooks 'Answer0', 'Answer1'"):
        call.compute_phase_metrics(run=None, phase=None)


def test_a_computed_value_that_is_no_dictionary_is_an_error():
    with pytest.raises(HookError, match="takes a dictionary from each hook, and got float"):
        registry_of(Answer(1.0)).call.compute_phase_metrics(run=None, phase=None)


def test_what_nobody_does_is_an_error_that_says_what_to_register():
    with pytest.raises(HookError, match=r"No hook does run_iteration.*training_step"):
        HookRegistry().call.run_iteration(run=None, phase=None, batch=None)


def test_a_registered_doer_takes_the_place_of_a_default_even_if_it_returns_nothing():
    default, replacement = Does(), Does()
    registry = HookRegistry(defaults=[default])
    registry.call.run_optimizer_step(run=None)
    registry.register(replacement, "replacement")
    registry.call.run_optimizer_step(run=None)
    assert (default.times, replacement.times) == (1, 1)
    registry.unregister("replacement")
    registry.call.run_optimizer_step(run=None)
    assert (default.times, replacement.times) == (2, 1)


def test_a_replaced_default_is_still_wrapped():
    class Wrapper:
        @hookimpl(wrapper=True)
        def run_optimizer_step(self):
            result = yield
            return f"wrapped {result}"

    registry = HookRegistry(defaults=[Does("default")])
    registry.register(Wrapper())
    assert registry.call.run_optimizer_step(run=None) == "wrapped default"
    registry.register(Does("replacement"), "replacement")
    assert registry.call.run_optimizer_step(run=None) == "wrapped replacement"


def test_two_hooks_that_do_the_same_are_refused():
    with pytest.raises(HookError, match=r"'Does0' and 'Does1' both do run_optimizer_step.*wrapper=True"):
        registry_of(Does(), Does())


def test_a_lone_doer_is_called_straight_with_any_part_of_the_arguments():
    class Partial:
        @hookimpl
        def run_forward(self, batch):
            return batch

    assert registry_of(Partial()).call.run_forward(run=None, phase=None, batch=5) == 5


@pytest.mark.parametrize("event", ["on_epoch_end", "run_optimizer_step"])
def test_an_error_keeps_its_type_and_names_hook_and_event(event):
    with pytest.raises(KeyError, match="lost") as caught:
        getattr(registry_of(Failing()).call, event)(run=None)
    assert caught.value.__notes__ == [f"in the hook 'Failing0', at {event}"]


def test_of_two_hooks_of_one_class_the_one_that_failed_is_named():
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


def test_an_error_that_passes_through_several_events_is_named_once_by_the_innermost():
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
    """The events of a registry of which the second hook can't record."""
    first, last = Records(), Records()
    registry = HookRegistry((first,), logging_errors=LoggingErrors(policy))
    registry.register(Broken(error), "mine")
    for number, hook in enumerate((last, *hooks)):
        registry.register(hook, str(number))
    return registry.call, first, last


def test_an_error_in_recording_is_told_once_and_every_other_hook_records(caplog):
    call, first, last = call_with_broken("warn", ConnectionError("gone"))
    with caplog.at_level(logging.WARNING, "torchbase"):
        for step in (1, 2):
            call.log_scalars(run=None, scalars={}, step=step)
    assert first.steps == last.steps == [1, 2]
    (told,) = caplog.messages
    assert told.startswith("mine can't record what log_scalars tells, so some values will be missing there; training")
    assert "goes on: ConnectionError: gone" in told


def test_an_error_in_recording_is_raised_where_errors_are_to_be():
    call, *_ = call_with_broken("raise", ConnectionError("gone"))
    with pytest.raises(ConnectionError, match="gone") as caught:
        call.log_scalars(run=None, scalars={}, step=1)
    assert caught.value.__notes__ == ["in the hook 'mine', at log_scalars"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_what_ends_a_program_ends_it_in_recording_too(error):
    call, *_ = call_with_broken("warn", error)
    with pytest.raises(type(error)):
        call.log_scalars(run=None, scalars={}, step=1)


class Around:
    def __init__(self):
        self.errors = []

    @hookimpl(wrapper=True)
    def log_scalars(self):
        try:
            yield
        except ConnectionError as error:
            self.errors.append(error)
            raise


def test_a_wrapper_sees_an_error_in_recording_before_it_is_told(caplog):
    around = Around()
    call, first, _ = call_with_broken("warn", ConnectionError("gone"), around)
    call.log_scalars(run=None, scalars={}, step=1)
    assert first.steps == [1]
    assert len(around.errors) == 1
    assert caplog.messages[0].startswith("mine can't record what log_scalars tells")


@pytest.mark.filterwarnings("ignore:Argument")  # pluggy warns of it as well
@pytest.mark.parametrize("hooks", [(), (Around(),)])
def test_a_mistake_of_who_tells_it_is_raised(hooks):
    call, *_ = call_with_broken("warn", ConnectionError("gone"), *hooks)
    with pytest.raises((KeyError, pluggy.HookCallError), match="scalars"):
        call.log_scalars(run=None, numbers={}, step=1)


def test_other_events_know_nothing_of_that():
    registry = HookRegistry((FailingOnly(),), logging_errors=LoggingErrors("warn"))
    with pytest.raises(KeyError):
        registry.call.on_epoch_end(run=None)
