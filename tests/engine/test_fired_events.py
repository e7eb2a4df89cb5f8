from torchbase import Engine, Phase, Run, hookimpl
from torchbase.engine.hook_checks import EVENT_NAMES
from torchbase.engine.plugins import HookRegistry


class Counts:
    def __init__(self):
        self.calls = 0

    @hookimpl
    def on_epoch_end(self):
        self.calls += 1


def test_an_event_is_recorded_when_it_fires_first_and_then_costs_nothing():
    registry = HookRegistry([hook := Counts()])
    assert registry.fired_events == set()
    first = registry.call.on_epoch_end
    registry.call.on_epoch_end(run=None)
    second = registry.call.on_epoch_end
    registry.call.on_epoch_end(run=None)
    assert registry.fired_events == {"on_epoch_end"}
    assert registry.call.on_epoch_end is second is not first
    assert hook.calls == 2


def test_an_event_without_hooks_is_recorded_too():
    registry = HookRegistry()
    for event in EVENT_NAMES:
        if not event.startswith("run_"):
            getattr(registry.call, event)()
    assert registry.fired_events == {event for event in EVENT_NAMES if not event.startswith("run_")}


def test_the_first_function_calls_the_hooks_that_are_registered_since():
    registry = HookRegistry()
    first = registry.call.on_epoch_end
    registry.register(hook := Counts())
    first(run=None)
    registry.call.on_epoch_end(run=None)
    assert hook.calls == 2


def test_a_hook_that_is_registered_later_changes_nothing_in_the_record():
    registry = HookRegistry()
    registry.call.on_epoch_end(run=None)
    registry.register(hook := Counts())
    registry.call.on_epoch_end(run=None)
    assert hook.calls == 1
    assert registry.fired_events == {"on_epoch_end"}
    registry.forget_fired_events()
    assert registry.fired_events == set()
    registry.call.on_epoch_end(run=None)
    assert hook.calls == 2
    assert registry.fired_events == {"on_epoch_end"}


def test_a_run_knows_what_has_fired_since_it_started():
    seen = []

    class Looks:
        @hookimpl
        def on_run_start(self, run):
            run.call.on_gradients_ready(run=run)

        @hookimpl
        def on_iteration_end(self, run):
            seen.append(set(run.fired_events))

    run = Run(training=Phase("training", [1], is_training=True), max_epochs=1)
    Engine(lambda run, phase, batch: None, [Looks()]).run(run)
    of_the_loop = {"on_epoch_start", "should_stop", "run_phase", "on_phase_start"}
    assert seen == [of_the_loop | {"on_iteration_start", "run_iteration", "on_iteration_end"}]
