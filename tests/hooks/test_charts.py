import json
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import CONFIG, StopAt, TinySession, config_with

from torchbase import BaseMetricsClass, Engine, Phase, Run, ValidationDatasetsDict, hookimpl
from torchbase.errors import HookError
from torchbase.hooks import Charts, JsonLines, LogValues, MetricAverages


class Layouts:
    """Records the logged layouts, each with the number of iterations before it."""

    def __init__(self):
        self.logged = []

    @hookimpl
    def log_layout(self, run, layout):
        self.logged.append((run.progress.iterations, layout))


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
    return layouts.logged


@pytest.mark.parametrize("rehearsal", [True, False])
def test_by_default_each_value_has_one_chart_with_the_epochs_of_all_phases(tmp_path, rehearsal):
    ((iterations, layout),) = run_with(Charts(), tmp_path, rehearsal=rehearsal)
    assert iterations == (0 if rehearsal else 5)
    (charts,) = layout.values()
    assert charts == {
        name: [f"{phase}/{name}/epochs" for phase in PHASES] for name in ("loss", "penalty", "absolute_error")
    }


def test_a_set_that_is_validated_within_epochs_has_separate_charts(tmp_path):
    class Within(TinySession):
        def init_datasets(self):
            training, validation = super().init_datasets()
            return training, replace(validation, every=("2it", "1ep"))

    session, layouts = Within(CONFIG, tmp_path), Layouts()
    session.register(layouts)
    session()
    ((_, layout),) = layouts.logged
    (charts,) = layout.values()
    assert charts == {
        "loss": ["training/loss/epochs", "validation-demo/loss/epochs"],
        "loss within epochs": ["validation-valid/loss/training_iterations"],
    }


def test_the_default_layout_of_a_session_contains_only_logged_tags(tmp_path):
    session = MeasuredSession(MEASURED, tmp_path)
    session.register(JsonLines())
    session()
    lines = [json.loads(line) for line in Path(session.run_dir, "log.jsonl").read_text().splitlines()]
    (layout,) = [line["layout"] for line in lines if line["kind"] == "layout"]
    tags = {tag for charts in layout.values() for chart in charts.values() for tag in chart}
    assert len(tags) == 9
    assert tags <= {line["tag"] for line in lines if line["kind"] == "scalar"}


CUSTOM = {
    "losses": {
        "loss": ("training/loss/epochs", "validation-valid/loss/epochs"),
        "best": ["validation-valid/best_loss/epochs"],
    },
    "mine": {"each": ["training/penalty/iterations", "training/absolute_error/iterations"]},
}


@pytest.mark.parametrize("rehearsal", [True, False])
def test_a_custom_layout_is_logged_unchanged(tmp_path, rehearsal):
    ((_, layout),) = run_with(Charts(CUSTOM), tmp_path, rehearsal=rehearsal)
    assert layout == {c: {chart: list(tags) for chart, tags in charts.items()} for c, charts in CUSTOM.items()}


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
def test_an_unknown_tag_raises_with_the_nearest_known_tag(tmp_path, rehearsal):
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


class LogNorm:
    @hookimpl
    def on_gradients_ready(self, run):
        run.log("norm", 1.0)


def test_with_a_rehearsal_the_tags_of_hooks_must_be_listed(tmp_path):
    layout = {"mine": {"norm": ["training/norm/iterations"]}}
    message, iterations = fail_with(Charts(layout), tmp_path)
    assert "'training/norm/iterations'" in message
    assert iterations == 0
    charts = Charts(layout, also_logged=["training/norm/iterations"])
    ((_, logged),) = run_with(charts, tmp_path, LogNorm())
    assert logged == layout


def test_without_a_rehearsal_the_tags_of_hooks_are_known(tmp_path):
    layout = {"mine": {"norm": ["training/norm/iterations", "training/norm/epochs"]}}
    ((_, logged),) = run_with(Charts(layout), tmp_path, LogNorm(), rehearsal=False)
    assert logged == layout


def test_without_a_rehearsal_the_layout_is_logged_after_every_set_is_validated(tmp_path):
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
    ((iterations, layout),) = layouts.logged
    assert iterations == 10
    assert "validation-demo/loss/epochs" in layout["training and validation"]["loss"]


def test_a_resumed_run_logs_the_layout_again(tmp_path):
    session = TinySession(CONFIG, tmp_path)
    session.register(StopAt(7))
    session()
    again, layouts = TinySession.resume(tmp_path, Path(session.run_dir).name), Layouts()
    again.register(layouts)
    again()
    assert [iterations for iterations, _ in layouts.logged] == [7]


def test_the_hook_works_without_a_session():
    layouts = Layouts()
    run = Run(training=Phase("training", [1.0, 2.0], is_training=True), max_epochs=2)
    hooks = [LogValues(), MetricAverages(), Charts(), layouts]
    Engine(lambda run, phase, batch: run.log("v", batch), hooks=hooks).run(run)
    assert layouts.logged == [(2, {"training and validation": {"v": ["training/v/epochs"]}})]


@pytest.mark.parametrize("layout", ["losses", {"losses": ["a"]}, {"losses": {"loss": "training/loss/epochs"}}])
def test_a_layout_of_another_form_raises_at_once(layout):
    with pytest.raises(HookError, match="Charts expects lists of tags by category and chart, but got"):
        Charts(layout)
