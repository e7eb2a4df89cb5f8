import json
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import CONFIG, StopAt, TinySession, config_with

from torchbase import BaseMetricsClass, Engine, Phase, Run, ValidationDatasetsDict, hookimpl
from torchbase.errors import HookError
from torchbase.hooks import Charts, JsonLines, LogValues, MetricAverages


class Layouts:
    """Keeps the layouts that are told, and how many iterations were done by then."""

    def __init__(self):
        self.told = []

    @hookimpl
    def log_layout(self, run, layout):
        self.told.append((run.progress.iterations, layout))


class Errors(BaseMetricsClass):
    def absolute_error(self, *, output, target):
        return (output - target).abs().mean().item()


class MeasuredSession(TinySession):
    def loss_function(self, *, output, target):
        loss = super().loss_function(output=output, target=target)
        return {"loss": loss, "penalty": loss * 2}

    def init_metrics(self):
        return [Errors()]


MEASURED = {**CONFIG, "metrics": {"Errors": ["absolute_error"]}}
PHASES = ("training", "validation-valid", "validation-demo")


def run_with(charts, tmp_path, *others, rehearsal=True, config=MEASURED):
    session, layouts = MeasuredSession(config, tmp_path), Layouts()
    session.unregister("charts")
    if not rehearsal:
        session.unregister("rehearsal")
    for hook in (charts, layouts, *others):
        session.register(hook)
    session()
    return layouts.told


@pytest.mark.parametrize("rehearsal", [True, False])
def test_by_default_each_value_has_a_chart_with_the_epochs_of_all_phases(tmp_path, rehearsal):
    ((iterations, layout),) = run_with(Charts(), tmp_path, rehearsal=rehearsal)
    assert iterations == (0 if rehearsal else 5)
    (charts,) = layout.values()
    assert charts == {
        name: [f"{phase}/{name}/epochs" for phase in PHASES] for name in ("loss", "penalty", "absolute_error")
    }


def test_a_set_that_is_validated_on_within_epochs_has_charts_of_its_own(tmp_path):
    class Within(TinySession):
        def init_datasets(self):
            training, validation = super().init_datasets()
            return training, replace(validation, every=("2it", "1ep"))

    session, layouts = Within(CONFIG, tmp_path), Layouts()
    session.register(layouts)
    session()
    ((_, layout),) = layouts.told
    (charts,) = layout.values()
    assert charts == {
        "loss": ["training/loss/epochs", "validation-demo/loss/epochs"],
        "loss within epochs": ["validation-valid/loss/training_iterations"],
    }


def test_a_session_has_it_by_default_and_every_tag_of_it_is_logged(tmp_path):
    session = MeasuredSession(MEASURED, tmp_path)
    session.register(JsonLines())
    session()
    lines = [json.loads(line) for line in Path(session.run_dir, "log.jsonl").read_text().splitlines()]
    (layout,) = [one["layout"] for one in lines if one["kind"] == "layout"]
    tags = {tag for charts in layout.values() for chart in charts.values() for tag in chart}
    assert len(tags) == 9
    assert tags <= {one["tag"] for one in lines if one["kind"] == "scalar"}


OWN = {
    "losses": {
        "loss": ("training/loss/epochs", "validation-valid/loss/epochs"),
        "best": ["validation-valid/best_loss/epochs"],
    },
    "mine": {"each": ["training/penalty/iterations", "training/absolute_error/iterations"]},
}


@pytest.mark.parametrize("rehearsal", [True, False])
def test_a_layout_of_the_users_is_told_as_it_was_given(tmp_path, rehearsal):
    ((_, layout),) = run_with(Charts(OWN), tmp_path, rehearsal=rehearsal)
    assert layout == {c: {chart: list(tags) for chart, tags in charts.items()} for c, charts in OWN.items()}


def fail_with(charts, tmp_path, **arguments):
    class NoteIterations:
        iterations = None

        @hookimpl
        def on_exception(self, run):
            self.iterations = run.progress.iterations

    note = NoteIterations()
    with pytest.raises(HookError) as caught:
        run_with(charts, tmp_path, note, **arguments)
    return str(caught.value), note.iterations


@pytest.mark.parametrize("rehearsal", [True, False])
def test_an_unknown_tag_is_refused_with_the_nearest_known_one(tmp_path, rehearsal):
    layout = {"losses": {"loss": ["training/loss/epochs", "validation-vald/loss/epochs"], "other": ["nonsense"]}}
    message, iterations = fail_with(Charts(layout), tmp_path, rehearsal=rehearsal)
    lines = message.splitlines()
    assert lines[0] == "The layout of Charts contains tags that nothing logs:"
    assert lines[1] == (
        "  'validation-vald/loss/epochs', in the chart 'loss' of 'losses'. Did you mean 'validation-valid/loss/epochs'?"
    )
    assert lines[2] == "  'nonsense', in the chart 'other' of 'losses'."
    assert "training/penalty/iterations" in lines[3]
    assert "also_logged" in lines[3]
    assert iterations == (0 if rehearsal else 5)


class LogsNorm:
    @hookimpl
    def on_gradients_ready(self, run):
        run.log("norm", 1.0)


def test_a_tag_that_a_hook_logs_has_to_be_named_where_only_the_rehearsal_is_known(tmp_path):
    layout = {"mine": {"norm": ["training/norm/iterations"]}}
    message, iterations = fail_with(Charts(layout), tmp_path)
    assert "'training/norm/iterations'" in message
    assert iterations == 0
    charts = Charts(layout, also_logged=["training/norm/iterations"])
    ((_, told),) = run_with(charts, tmp_path, LogsNorm())
    assert told == layout


def test_without_a_rehearsal_the_tags_of_hooks_are_seen(tmp_path):
    layout = {"mine": {"norm": ["training/norm/iterations", "training/norm/epochs"]}}
    ((_, told),) = run_with(Charts(layout), tmp_path, LogsNorm(), rehearsal=False)
    assert told == layout


def test_without_a_rehearsal_a_set_that_is_validated_on_later_is_waited_for(tmp_path):
    class Rarely(MeasuredSession):
        def init_datasets(self):
            train, valid = super().init_datasets()
            sets = tuple(valid[name] for name in valid)
            return train, ValidationDatasetsDict(
                datasets=sets, only_for_demo=(False, True), names=("valid", "demo"), every=("1ep", "2ep")
            )

    session, layouts = Rarely({**MEASURED, "session": config_with(num_epochs=4)["session"]}, tmp_path), Layouts()
    session.unregister("rehearsal")
    session.register(layouts)
    session()
    ((iterations, layout),) = layouts.told
    assert iterations == 10
    assert "validation-demo/loss/epochs" in layout["training and validation"]["loss"]


def test_a_run_that_goes_on_tells_it_again(tmp_path):
    session = TinySession(CONFIG, tmp_path)
    session.register(StopAt(7))
    session()
    again, layouts = TinySession.resume(tmp_path, Path(session.run_dir).name), Layouts()
    again.register(layouts)
    again()
    assert [iterations for iterations, _ in layouts.told] == [7]


def test_it_works_with_an_engine_alone():
    layouts = Layouts()
    run = Run(training=Phase("training", [1.0, 2.0], is_training=True), max_epochs=2)
    hooks = [LogValues(), MetricAverages(), Charts(), layouts]
    Engine(lambda run, phase, batch: run.log("v", batch), hooks=hooks).run(run)
    assert layouts.told == [(2, {"training and validation": {"v": ["training/v/epochs"]}})]


@pytest.mark.parametrize("layout", ["losses", {"losses": ["a"]}, {"losses": {"loss": "training/loss/epochs"}}])
def test_a_layout_of_another_form_is_refused_at_once(layout):
    with pytest.raises(HookError, match="Charts expects lists of tags by category and chart, but got"):
        Charts(layout)
