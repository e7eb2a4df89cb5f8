import inspect

import pytest
import torch

from torchbase import Engine, Phase, Run, hookimpl
from torchbase.engine import hookspecs as catalogue
from torchbase.engine.hook_checks import EVENT_NAMES
from torchbase.engine.training_step import TrainingStep
from torchbase.errors import DataError, HookError, StepError
from torchbase.intervals import Interval


def make_spy(events=EVENT_NAMES):
    """Returns a hook that records every event with its phase, and the list of records; wrappers record both sides."""
    calls = []

    def implementation(event):
        names = list(inspect.signature(getattr(catalogue, event)).parameters)

        if event.startswith("run_"):

            def implement(self, run, phase=None):
                calls.append(f"{event} begins")
                result = yield
                calls.append(f"{event} ends")
                return result

            arguments = ["run", *(["phase"] if "phase" in names else [])]
        else:

            def implement(self, run, phase=None):
                calls.append(f"{event} {phase.name}" if phase is not None else event)
                return {} if event.startswith("compute") else None

            arguments = ["run", *(["phase"] if "phase" in names else [])]
        scope = {"implement": implement}
        text = f"def {event}(self, {', '.join(arguments)}):\n"
        if event.startswith("run_"):
            text += f"    return (yield from implement(self, {', '.join(arguments)}))\n"
        else:
            text += f"    return implement(self, {', '.join(arguments)})\n"
        exec(text, scope)
        return hookimpl(wrapper=event.startswith("run_"))(scope[event])

    recorded = [event for event in events if event != "on_setup_start" and not event.startswith("log_")]
    return type("Spy", (), {event: implementation(event) for event in recorded})(), calls


def small_run(max_epochs=1, batches=2, validation=("valid",)):
    network = torch.nn.Linear(3, 1)
    loader = [{"x": torch.randn(4, 3)} for _ in range(batches)]
    return Run(
        training=Phase("training", loader, is_training=True),
        validation=tuple(Phase(f"validation-{name}", loader[:1]) for name in validation),
        max_epochs=max_epochs,
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
    )


def small_step(run):
    return TrainingStep(
        lambda batch: {"y": run.network(batch["x"])},
        lambda *, y: y.square().mean(),
        lambda *, loss_tensor: loss_tensor,
        lambda batch: len(batch["x"]),
    )


def test_the_order_of_all_events():
    run = small_run(batches=1)
    spy, calls = make_spy()
    Engine(defaults=[small_step(run)], hooks=[spy]).run(run)
    assert calls == [
        "on_run_start",
        "should_stop",
        "on_epoch_start",
        "run_phase begins",
        "on_phase_start training",
        "on_iteration_start training",
        "run_iteration begins",
        "run_forward begins",
        "run_forward ends",
        "on_loss_computed training",
        "run_backward begins",
        "run_backward ends",
        "on_gradients_ready",
        "should_step_optimizer",
        "run_optimizer_step begins",
        "run_optimizer_step ends",
        "run_iteration ends",
        "on_iteration_end training",
        "on_values_read training",
        "compute_phase_metrics training",
        "on_phase_end training",
        "run_phase ends",
        "run_phase begins",
        "on_phase_start validation-valid",
        "on_iteration_start validation-valid",
        "run_iteration begins",
        "run_forward begins",
        "run_forward ends",
        "on_loss_computed validation-valid",
        "run_iteration ends",
        "on_iteration_end validation-valid",
        "on_values_read validation-valid",
        "compute_phase_metrics validation-valid",
        "on_phase_end validation-valid",
        "run_phase ends",
        "is_best_epoch",
        "on_epoch_end",
        "on_run_end",
    ]


def test_the_order_of_events_with_validation_within_training():
    run = small_run(batches=3)
    run.validation[0].every = Interval(2, "it")
    recorded = {"on_phase_start", "on_iteration_start", "on_phase_end", "is_best_epoch", "on_epoch_end"}
    spy, calls = make_spy([event for event in EVENT_NAMES if event in recorded])
    Engine(defaults=[small_step(run)], hooks=[spy]).run(run)
    assert calls == [
        "on_phase_start training",
        "on_iteration_start training",
        "on_iteration_start training",
        "on_phase_start validation-valid",
        "on_iteration_start validation-valid",
        "on_phase_end validation-valid",
        "is_best_epoch",
        "on_phase_start training",
        "on_iteration_start training",
        "on_phase_end training",
        "on_phase_start validation-valid",
        "on_iteration_start validation-valid",
        "on_phase_end validation-valid",
        "is_best_epoch",
        "on_epoch_end",
    ]


def test_validation_within_training_runs_after_every_nth_iteration_and_at_the_end_of_the_run():
    seen = []

    def step(run, phase, batch):
        if not phase.is_training:
            seen.append((phase.name[-1], run.progress.iterations, run.epoch, run.curve(phase)))

    validation = (Phase("validation-a", [1], every=Interval(4, "it")), Phase("validation-b", [1]))
    Engine(step).run(Run(Phase("training", range(5), is_training=True), max_epochs=3, validation=validation))
    of_b = [("b", 5 * epoch, epoch, ("epochs", epoch)) for epoch in (1, 2, 3)]
    of_a = [("a", done, 1 + (done - 1) // 5, ("training_iterations", done)) for done in (4, 8, 12, 15)]
    assert seen == [of_a[0], of_b[0], of_a[1], of_b[1], of_a[2], of_a[3], of_b[2]]


def test_a_validation_set_that_just_ran_does_not_run_again_at_the_end_of_the_run():
    done = []
    validation = (Phase("validation-a", [1], every=Interval(5, "it")),)
    run = Run(Phase("training", range(5), is_training=True), max_epochs=2, validation=validation)
    Engine(lambda run, phase, batch: phase.is_training or done.append(run.progress.iterations)).run(run)
    assert done == [5, 10]
    assert run.epochs_done == 2


def test_a_run_resumes_after_a_stop_in_a_validation_within_training():
    seen = []

    class Stop:
        @hookimpl
        def on_iteration_end(self, run, phase):
            seen.append((phase.name[-1], phase.progress.iterations))
            if seen == [("g", 1), ("g", 2), ("a", 1)]:
                run.request_stop("for the test")

    validation = tuple(Phase(f"validation-{name}", [1, 2], every=Interval(2, "it")) for name in "ab")
    run = Run(Phase("training", range(3), is_training=True), max_epochs=1, validation=validation)
    engine = Engine(lambda run, phase, batch: None, [Stop()])
    engine.run(run)
    assert run.epochs_done == 0
    run.stop_reason = None
    engine.run(run)
    assert seen == [
        *[("g", 1), ("g", 2), ("a", 1)],  # stopped
        *[("a", 2), ("b", 1), ("b", 2), ("g", 3)],
        *[("a", 3), ("a", 4), ("b", 3), ("b", 4)],  # the end of the run
    ]
    assert run.epochs_done == 1


def test_a_finished_validation_set_does_not_run_again_if_the_next_one_was_stopped():
    seen = []

    class Stop:
        @hookimpl
        def on_iteration_end(self, run, phase):
            seen.append(phase.name[-1])
            if seen == ["g", "g", "a", "b"]:
                run.request_stop("for the test")

    validation = tuple(
        Phase(f"validation-{name}", [1, 2][: len(name)], every=Interval(2, "it")) for name in ("a", "bb")
    )
    run = Run(Phase("training", range(4), is_training=True), max_epochs=1, validation=validation)
    engine = Engine(lambda run, phase, batch: None, [Stop()])
    engine.run(run)
    run.stop_reason = None
    engine.run(run)
    assert "".join(seen) == "gga" + "bb" + "gg" + "abb"


def test_values_logged_after_a_validation_within_training_belong_to_training():
    read = []

    class LogAndRecord:
        @hookimpl
        def on_iteration_start(self, run):
            run.log("progress", run.progress.iterations)

        @hookimpl
        def on_values_read(self, phase, rows):
            read.extend((phase.name, row.values["progress"]) for row in rows)

    validation = (Phase("validation-a", [1], every=Interval(2, "it")),)
    run = Run(Phase("training", range(3), is_training=True), max_epochs=1, validation=validation)
    Engine(lambda run, phase, batch: None, [LogAndRecord()]).run(run)
    training, valid = "training", "validation-a"
    assert read == [(training, 0), (training, 1), (valid, 2), (training, 2), (valid, 3)]


def test_an_engine_needs_only_a_function():
    seen = []
    engine = Engine(lambda run, phase, batch: seen.append((run.epoch, phase.name, batch)))
    run = Run(
        training=Phase("training", "ab", is_training=True), validation=(Phase("validation-v", "c"),), max_epochs=2
    )
    engine.run(run)
    assert seen == [
        (1, "training", "a"),
        (1, "training", "b"),
        (1, "validation-v", "c"),
        (2, "training", "a"),
        (2, "training", "b"),
        (2, "validation-v", "c"),
    ]
    assert (run.epochs_done, run.progress.iterations, run.validation[0].progress.iterations) == (2, 4, 2)
    assert run.stop_reason is None


def test_an_engine_without_an_iteration_raises_an_error():
    with pytest.raises(HookError, match="No hook implements run_iteration"):
        Engine().run(Run(training=Phase("training", [1], is_training=True), max_epochs=1))


def test_a_finished_run_does_not_train_again():
    seen = []
    engine = Engine(lambda run, phase, batch: seen.append(batch))
    run = Run(training=Phase("training", [1], is_training=True), max_epochs=1)
    engine.run(run)
    engine.run(run)
    assert seen == [1]
    run.max_epochs = 2
    engine.run(run)
    assert seen == [1, 1]


def test_a_requested_stop_comes_before_the_next_iteration_and_the_run_resumes():
    seen = []

    def step(run, phase, batch):
        seen.append(batch)
        if len(seen) == 2:
            run.request_stop("seen enough")
            run.request_stop("another reason")

    spy, calls = make_spy(["on_phase_end", "on_epoch_end", "on_run_end", "on_epoch_start"])
    engine = Engine(step, hooks=[spy])
    run = Run(training=Phase("training", [1, 2, 3], is_training=True), max_epochs=2)
    engine.run(run)
    assert seen == [1, 2]
    assert run.stop_reason == "seen enough"
    assert (run.epoch, run.epochs_done, run.progress.mini_batches) == (1, 0, 2)
    assert calls == ["on_epoch_start", "on_run_end"]
    run.stop_reason = None
    engine.run(run)
    assert seen == [1, 2, 3, 1, 2, 3]
    assert run.epochs_done == 2


def test_a_hook_can_end_the_run_between_epochs():
    class Stop:
        @hookimpl
        def should_stop(self, run):
            return run.epochs_done == 2

    run = Run(training=Phase("training", [1], is_training=True), max_epochs=5)
    Engine(lambda run, phase, batch: None, hooks=[Stop()]).run(run)
    assert run.epochs_done == 2
    assert run.stop_reason == "a hook returned True from should_stop"


def test_an_error_is_passed_to_on_exception_and_has_a_note_on_where_it_was_raised():
    errors = []

    class Listener:
        @hookimpl
        def on_exception(self, run, error):
            errors.append(error)

    def step(run, phase, batch):
        if run.progress.iterations == 4:
            raise KeyError("column")

    run = Run(training=Phase("training", [1, 2, 3], is_training=True), max_epochs=3)
    with pytest.raises(KeyError, match="column") as caught:
        Engine(step, hooks=[Listener()]).run(run)
    assert errors == [caught.value]
    assert caught.value.__notes__ == [
        "with mini-batch 2 of training, epoch 2: int",
        "in training, epoch 2, after 1 mini-batches of this epoch",
    ]
    assert run.current_phase is None


def test_values_are_read_in_blocks_each_with_its_iteration():
    rows = []

    class Reader:
        @hookimpl
        def on_values_read(self, run, phase, rows):
            collected.append(len(rows))
            all_rows.extend(rows)

    collected, all_rows = [], rows
    run = Run(training=Phase("training", range(150), is_training=True), max_epochs=2)
    Engine(lambda run, phase, batch: run.log("value", torch.tensor(batch)), hooks=[Reader()]).run(run)
    assert [row.iteration for row in rows] == list(range(1, 301))
    assert [row.values["value"] for row in rows] == [*range(150), *range(150)]
    assert [row.mini_batch for row in rows[150:]] == list(range(1, 151))
    assert collected == [64, 64, 22] * 2


def test_a_value_logged_between_phases_belongs_to_the_epoch():
    logged = []

    class Backend:
        @hookimpl
        def log_scalars(self, scalars, step):
            logged.append((dict(scalars), step))

    class Logger:
        @hookimpl
        def on_epoch_end(self, run):
            run.log("rate", 0.5)

    run = Run(training=Phase("training", [1], is_training=True), max_epochs=2)
    Engine(lambda run, phase, batch: None, hooks=[Logger(), Backend()]).run(run)
    assert logged == [({"training/rate/epochs": 0.5}, 1), ({"training/rate/epochs": 0.5}, 2)]


def test_logging_a_tensor_of_several_elements_is_refused():
    run = Run(training=Phase("training", [1], is_training=True), max_epochs=1)
    with pytest.raises(StepError, match=r"run.log\('value', …\).*shape \(3,\).*reduce it"):
        run.log("value", torch.zeros(3))


def test_a_logged_tensor_may_change_afterwards():
    rows = []

    class Reader:
        @hookimpl
        def on_values_read(self, rows):
            collected.extend(rows)

    collected = rows
    total = torch.zeros(1)

    def step(run, phase, batch):
        total.add_(1)
        run.log("total", total)

    Engine(step, hooks=[Reader()]).run(Run(training=Phase("training", range(3), is_training=True), max_epochs=1))
    assert [row.values["total"] for row in rows] == [1.0, 2.0, 3.0]


def test_outputs_and_loss_are_available_at_the_end_of_an_iteration_and_released_after_it():
    run = small_run()
    seen = []

    class Inspector:
        @hookimpl
        def on_iteration_start(self, phase):
            assert phase.outputs is None
            assert phase.loss is None

        @hookimpl
        def on_iteration_end(self, phase):
            seen.append((phase.outputs["y"].shape, phase.loss.requires_grad, phase.samples))

    Engine(defaults=[small_step(run)], hooks=[Inspector()]).run(run)
    assert seen == [((4, 1), False, 4)] * 3


def test_a_seekable_loader_is_called_with_the_epoch_and_the_start():
    arguments = []

    class Loader:
        def mini_batches(self, epoch, start):
            arguments.append((epoch, start))
            return iter(range(start, 3))

    run = Run(training=Phase("training", Loader(), is_training=True), max_epochs=2)
    run.epoch, run.progress.mini_batches = 1, 2
    seen = []
    Engine(lambda run, phase, batch: seen.append(batch)).run(run)
    assert arguments == [(1, 2), (2, 0)]
    assert seen == [2, 0, 1, 2]


def test_events_before_the_run_is_passed_to_an_engine_are_refused():
    run = Run(training=Phase("training", [1], is_training=True), max_epochs=1)
    with pytest.raises(HookError, match=r"The event 'log_scalars' can't fire.*To fix, call engine.run"):
        run.call.log_scalars(run=run, scalars={}, step=1)


def test_hooks_can_be_registered_during_a_run():
    seen = []

    class Late:
        @hookimpl
        def on_iteration_end(self, phase):
            seen.append(phase.progress.iterations)

    class Early:
        @hookimpl
        def on_epoch_end(self, run):
            if run.epoch == 1:
                engine.register(Late())

    engine = Engine(lambda run, phase, batch: None, hooks=[Early()])
    run = Run(training=Phase("training", [1, 2], is_training=True), max_epochs=2)
    engine.run(run)
    assert seen == [3, 4]
    assert "late" in run.hooks


def test_a_loader_without_mini_batches_is_an_error():
    run = Run(training=Phase("training", iter([1, 2]), is_training=True), max_epochs=2)
    with pytest.raises(DataError, match=r"The loader of training returned no mini-batch in epoch 2.*not a generator"):
        Engine(lambda run, phase, batch: None).run(run)
